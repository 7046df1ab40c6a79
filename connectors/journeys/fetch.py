"""The Journeys API's side of the wire: plain polling, no key."""

from connectors.polling import polled as sources

__all__ = ["sources"]
