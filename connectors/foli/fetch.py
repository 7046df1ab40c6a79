"""Föli's side of the wire: plain polling, no key; the city file keeps to the 3 s that Föli asks for."""

from connectors.polling import polled as sources

__all__ = ["sources"]
