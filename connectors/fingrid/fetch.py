"""Fingrid's side of the wire: plain polling with a key in a header (README.md beside this file)."""

from connectors.polling import polled as sources

__all__ = ["sources"]
