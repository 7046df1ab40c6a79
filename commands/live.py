"""Live feeds for a while, without a broker: what connectors would have written, kept in memory. For `check` and `conform`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors import cities
from connectors.cities import City
from connectors.envelope import Envelope, Source, decode
from connectors.run import FeedConnector
from models.errors import ConfigError
from models.topics import raw_topic

#: All bodies together; when there are more, listening ends early.
MOST_BYTES = 512 * 1024 * 1024


@dataclass
class Heard:
    """What came."""

    log: list[tuple[str, int, Envelope]] = field(default_factory=list)  #: feed, raw partition, envelope, in the order in which they came
    sources: dict[str, Source] = field(default_factory=dict)  #: by feed: how its connector saw it at last
    left_alone: dict[str, str] = field(default_factory=dict)  #: feeds that need a secret that is not set
    refused: dict[str, int] = field(default_factory=dict)  #: documents over the connector's own limits


class _Memory:
    """Takes what the producer of Kafka would."""

    def __init__(self, heard: Heard, feed: str, topic: str, stop: asyncio.Event) -> None:
        self._heard, self._feed, self._topic, self._stop = heard, feed, topic, stop
        self._bytes = 0

    async def send(self, topic: str, value: bytes, *, partition: int | None = None, **_: Any) -> asyncio.Future[None]:
        if topic == self._topic:
            envelope = decode(value)
            if envelope.kind != "tick" or not self._stop.is_set():  # that we stop listening is no trouble of the feed
                self._heard.log.append((self._feed, partition or 0, envelope))
            self._bytes += len(value)
            if self._bytes > MOST_BYTES:
                self._stop.set()
        else:
            self._heard.refused[self._feed] = self._heard.refused.get(self._feed, 0) + 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def listen(
    city: City,
    seconds: float,
    stop: asyncio.Event,
    *,
    env: Mapping[str, str] = os.environ,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Heard:
    """Connect to all feeds of a city for so long, or until ``stop`` is set. A feed of another city's (``raw_of``) is reached as that city reaches it."""
    owner = cities.load(city.raw_of) if city.raw_of is not None else city
    heard = Heard()
    connectors: dict[str, FeedConnector] = {}
    for feed in city.feeds:
        try:
            connectors[feed.name] = FeedConnector(owner, feed, now_ms=now_ms, env=env)
        except ConfigError as e:
            heard.left_alone[feed.name] = str(e)
    tasks = [
        asyncio.create_task(c.run(_Memory(heard, name, raw_topic(owner.name, name), stop), "", stop), name=name)
        for name, c in connectors.items()
    ]
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
    finally:
        heard.sources = {name: c.source() for name, c in connectors.items()}
        stop.set()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
    for name, source in heard.sources.items():
        if source.detail is not None and source.detail.startswith("left alone"):
            heard.left_alone[name] = source.detail
    return heard
