"""What can go wrong, by who raises it and what happens then (the table in ``docs/flow.md``)."""

from __future__ import annotations


class BadMessage(ValueError):
    """One message (or one entity in it) that a parser refuses: it goes to the dead-letter topic and the stream goes on.

    >>> str(BadMessage("hfp", "spd", -3.2, "metres per second >= 0 or null"))
    'hfp: spd = -3.2, expected metres per second >= 0 or null'
    """

    def __init__(self, feed: str, field: str, value: object, want: str) -> None:
        self.feed, self.field, self.value, self.want = feed, field, value, want
        shown = repr(value)
        super().__init__(f"{feed}: {field} = {shown if len(shown) <= 120 else shown[:117] + '...'}, expected {want}")


class FeedUnavailable(Exception):
    """A fetcher could not get an answer: back-off with jitter; feed-health says "degraded" and since when."""


class ConfigError(ValueError):
    """A setting, city file or argument is wrong. The command exits 78 before anything is touched.

    >>> str(ConfigError("helsinki.toml", "feeds.hfp.port", "x", "an integer 1-65535"))
    "helsinki.toml: feeds.hfp.port = 'x', expected an integer 1-65535"
    """

    def __init__(self, file: str, key: str, value: object, want: str) -> None:
        self.file, self.key, self.value, self.want = file, key, value, want
        super().__init__(f"{file}: {key} = {value!r}, expected {want}")


#: Exit codes of every command (sysexits.h): failed, our own bug, bad configuration.
EXIT_FAILED, EXIT_SOFTWARE, EXIT_CONFIG = 1, 70, 78
