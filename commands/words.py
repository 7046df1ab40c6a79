"""How the feeds of a city are, in words for people: one line a feed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from commands.live import Heard
from connectors.cities import City
from models.clock import parse_ms
from streams.conform import FeedCounts, Report


def feeds(city: City, heard: Heard, report: Report) -> Iterator[tuple[str, bool]]:
    """A line and whether it is good, for each feed in the order of the city file."""
    width = max(len(f.name) for f in city.feeds)
    for feed in city.feeds:
        state, said = _feed(feed.name, heard, report)
        yield f"feed       {state:11} {feed.name:{width}}  {said}", state in ("ok", "empty", "left alone")


def _feed(name: str, heard: Heard, report: Report) -> tuple[str, str]:
    if name in heard.left_alone:
        return "left alone", heard.left_alone[name].removeprefix("left alone: ")
    source, counts, health = heard.sources[name], report.feeds.get(name), report.health.get(name)
    status = f" (HTTP {source.http_status})" if source.http_status is not None else ""
    if name in heard.refused and counts is None:
        return "unreadable", f"{heard.refused[name]} documents over the limits: {source.detail}"
    if counts is None and not source.connected:
        return "unreachable", f"{source.detail or 'no answer'}{status}"
    if counts is None:
        return "silent", f"reached{status}, but nothing came: more time may be needed (--for)"
    told = ", ".join(_told(counts))
    if counts.events and sum(counts.rejected.values()) == counts.events:
        return "unreadable", told
    if health is not None and health.state in ("stale", "dead") and health.newest_event_time is not None:
        return "stale", f"{told}; {health.detail}"
    if source.detail is not None:
        return "degraded", f"{told}; {source.detail}"
    if health is not None and health.state == "degraded":
        return "degraded", f"{told}; {health.detail}"
    if health is not None and health.state == "empty":
        return "empty", f"{told}; {health.detail}"
    age = (
        ""
        if health is None or health.newest_event_time is None
        else f"; newest {_age(report.last_ms - parse_ms(health.newest_event_time))}"
    )
    return "ok", told + age


def _told(c: FeedCounts) -> Iterator[str]:
    yield f"{c.messages:,} messages with {c.events:,} events"
    rejected = sum(c.rejected.values())
    yield "all parsed" if not rejected else f"{rejected:,} refused ({', '.join(f'{r} {n:,}' for r, n in c.rejected.most_common(3))})"
    if c.on_streets:
        yield f"{c.on_streets / max(1, c.accepted):.0%} on streets"
    for n, what in (
        (c.secondary, "told better by another feed"),
        (c.duplicates, "repeated"),
        (c.late, "late"),
        (c.elsewhere + sum(c.passed.values()), "not of this city, or left out"),
        (c.waiting, "waiting for the list of sites"),
    ):
        if n:
            yield f"{n:,} {what}"
    if c.lag_ms:
        yield f"lag {np.median(c.lag_ms) / 1000:.1f} s"


def _age(ms: int) -> str:
    """
    >>> _age(1500), _age(200_000), _age(9_000_000)
    ('2 s old', '3 min old', '2 h old')
    """
    seconds = max(0, ms) / 1000
    return f"{seconds:.0f} s old" if seconds < 120 else f"{seconds / 60:.0f} min old" if seconds < 7200 else f"{seconds / 3600:.0f} h old"
