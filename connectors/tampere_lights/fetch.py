"""The Tampere traffic lights' side of the wire: plain polling, no key."""

from connectors.polling import polled as sources

__all__ = ["sources"]
