"""Live feeds into raw topics: envelopes, and a tick every five seconds into each partition. The only part of the connectors that knows Kafka.

Order and time: one queue and one sender a feed, so a partition's ingest times never fall. Back-pressure: the queue is short; while it is full, polls wait
and MQTT's buffer fills, drops its newest messages and counts them. A message that Kafka has not taken within 30 s ends the process: what an envelope says of its
time must be true when it is written, and the supervisor starts a fresh connector.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_zstd
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from connectors import secrets
from connectors.cities import STOPS, City, Family, FeedSettings, Http
from connectors.datex2 import fetch as datex2
from connectors.digitraffic import fetch as digitraffic
from connectors.envelope import MAX_WAIT_MS, TICK_MS, Envelope, Item, Source, encode, headers
from connectors.fingrid import fetch as fingrid
from connectors.foli import fetch as foli
from connectors.gather import Gatherer, partition_of
from connectors.gbfs import fetch as gbfs
from connectors.gtfs_realtime import fetch as gtfs_realtime
from connectors.hfp import fetch as hfp
from connectors.journeys import fetch as journeys
from connectors.kafka import make_producer
from connectors.liipi import fetch as liipi
from connectors.mqtt import MqttSource
from connectors.oulunliikenne import fetch as oulunliikenne
from connectors.polling import Answer, Poller, Refused, Unavailable
from connectors.siri import fetch as siri
from connectors.tampere_lights import fetch as tampere_lights
from connectors.tasks import until_first
from models.clock import rfc3339
from models.errors import ConfigError
from models.records import DeadLetter
from models.records import encode as encode_record
from models.topics import MAX_MESSAGE_BYTES, dead_letter_topic, raw_topic

FETCH: dict[Family, ModuleType] = {
    "hfp": hfp,
    "gtfs_realtime": gtfs_realtime,
    "digitraffic": digitraffic,
    "siri": siri,
    "gbfs": gbfs,
    "datex2": datex2,
    "fingrid": fingrid,
    "foli": foli,
    "journeys": journeys,
    "liipi": liipi,
    "oulunliikenne": oulunliikenne,
    "tampere_lights": tampere_lights,
}
#: Envelopes between gathering and sending, a feed.
QUEUE = 64
#: How often MQTT's buffer is emptied, seconds; adds to an envelope's 250 ms.
DRAIN_S = 0.05
DELIVERY_MS = 30_000
MAX_BACKOFF_S = 60.0
#: Largest document, packed as Kafka will carry it, bytes.
LARGEST = MAX_MESSAGE_BYTES - 64 * 1024
log = logging.getLogger(__name__)


class DeliveryFailed(Exception):
    """Kafka did not take an envelope in time: the process must end with a failure, and be started again."""


class Metrics:
    """What a connector counts, by city and feed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)

        def counter(name: str, what: str) -> Counter:
            return Counter(f"tilannekuva_connector_{name}", what, ("city", "feed"), registry=registry)

        self.messages = counter("messages", "Messages and documents received")
        self.bytes = counter("bytes", "Bytes of their bodies, unpacked")
        self.dropped = counter("dropped", "Messages dropped by the connector's own limits")
        self.refused = counter("refused", "Documents refused by the connector's own limits")
        self.envelopes = counter("envelopes", "Envelopes and ticks written")
        self.last_ingest = Gauge(
            "tilannekuva_connector_last_ingest_seconds",
            "When the last message came, seconds since 1970",
            ("city", "feed"),
            registry=registry,
        )


async def connect(
    city: City,
    feeds: Sequence[str],
    bootstrap: str,
    *,
    stop: asyncio.Event,
    prefix: str = "",
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    metrics: Metrics | None = None,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Run the connectors of some of a city's feeds until ``stop`` is set; then write what is held, and return.

    Args:
        feeds: names in the city file; empty means all.
        bootstrap: Kafka's address.
        prefix: of topics, as in ``models.topics``.
        now_ms: the clock of ingest times.
        metrics: where it counts; None keeps none that anybody sees.
        env: where secrets are.

    Raises:
        ConfigError: an unknown feed or a secret that is not set; before anything is touched.
        DeliveryFailed: Kafka did not take something in time.
        KafkaError: Kafka cannot be reached at the start.
    """
    if city.raw_of is not None:
        raise ConfigError(f"{city.name}.toml", "raw_of", city.raw_of, f"no connector: connect {city.raw_of}, which these feeds belong to")
    chosen = [city.feed(f) for f in feeds] if feeds else list(city.feeds)
    metrics = metrics or Metrics(CollectorRegistry())
    connectors = [FeedConnector(city, feed, now_ms=now_ms, env=env, metrics=metrics) for feed in chosen]
    producer = make_producer(
        bootstrap,
        f"tilannekuva-connect-{city.name}",
        max_batch_bytes=512 * 1024,
        max_request_bytes=4 * MAX_MESSAGE_BYTES,
        request_timeout_ms=DELIVERY_MS,
        env=env,
    )
    await producer.start()
    try:
        await until_first(c.run(producer, prefix, stop) for c in connectors)
    finally:
        try:
            await asyncio.wait_for(producer.stop(), 10)
        except (TimeoutError, KafkaError) as e:
            log.warning("producer did not stop cleanly", extra={"detail": repr(e)})


def unasked(http: Http) -> bool:
    """Whether it asks for stops and nobody has said which."""
    return STOPS in http.url and not http.stops


class FeedConnector:
    """One feed: its sources, its gatherers, its queue."""

    def __init__(
        self,
        city: City,
        feed: FeedSettings,
        *,
        now_ms: Callable[[], int],
        env: Mapping[str, str] = os.environ,
        metrics: Metrics | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.city, self.feed = city, feed
        self._now_ms = now_ms
        self._jitter = jitter or random.SystemRandom()
        self._metrics = metrics or Metrics(CollectorRegistry())
        self._labels = (city.name, feed.name)
        self._gatherers = [Gatherer(city, feed, p) for p in range(feed.partitions)]
        self._queue: asyncio.Queue[tuple[int, Envelope] | DeadLetter | None] = asyncio.Queue(QUEUE)
        self._prefix = ""
        self._lock = asyncio.Lock()  #: gathering and queueing are one step: two sources must not overtake each other
        self._failed: asyncio.Future[None] | None = None
        self._dropped_before = 0
        file, at = f"{city.name}.toml", f"feeds.{feed.name}"
        family = FETCH[feed.family]
        mqtt, http = family.sources(feed, file)
        #: Families may know documents that name others (GBFS), and cut documents that are too large for one envelope (DATEX II).
        self._discover: Callable[[Http, FeedSettings, bytes], tuple[tuple[Http, ...], tuple[str, ...]] | None] | None = getattr(
            family, "discover", None
        )
        cutter: Callable[[City], Callable[[bytes], list[bytes]]] | None = getattr(family, "Cutter", None)
        self._cut = None if cutter is None else cutter(city)
        self._followed: dict[str, tuple[Poller, asyncio.Task[None]]] = {}  #: by address: what discovery documents named
        self._env = env
        self._mqtt: MqttSource | None = None
        self._pollers: list[Poller] = []
        self._left_alone: str | None = None  #: why nothing is asked for: an optional feed without its secrets
        try:
            if mqtt is not None:
                login = secrets.login(env, mqtt.username_env, mqtt.password_env, file, f"{at}.mqtt")
                self._mqtt = MqttSource(mqtt, name=f"{city.name}-{feed.name}", now_ms=now_ms, login=login, allow_private=feed.allow_private)
            self._pollers = [self._poller(h, file, f"{at}.http.{k}") for k, h in enumerate(http) if not unasked(h)]
            if http and not self._pollers and mqtt is None:
                self._left_alone = "left alone: no stops to ask for: name them in stops, or build the network"
        except ConfigError as e:
            if not feed.optional:
                raise
            self._mqtt, self._left_alone = None, f"left alone: {e}"
            log.warning("feed left alone", extra={"feed": feed.name, "detail": str(e)})
        self._http: dict[str, tuple[int | None, str | None]] = {}  #: by address: last status, and what is wrong

    def _poller(self, settings: Http, file: str, at: str) -> Poller:
        """
        Raises:
            ConfigError: a secret is not set.
        """
        login = secrets.login(self._env, settings.username_env, settings.password_env, file, at)
        hidden = {name: secrets.read(self._env, var, file, f"{at}.headers_env.{name}") for name, var in settings.headers_env.items()}
        return Poller(settings, headers=hidden, login=login, allow_private=self.feed.allow_private)

    def source(self) -> Source:
        """What is known of the feed's source now."""
        if self._left_alone is not None:
            return Source(False, None, self._left_alone[:300])
        dropped, details, connected, status = 0, [], True, None
        if self._mqtt is not None:
            connected, dropped = self._mqtt.connected, self._mqtt.dropped
            details.append(self._mqtt.detail)
        for p in self._pollers:
            code, detail = self._http.get(p.settings.url, (None, "not asked yet"))
            details.append(detail)
            status = code if detail is not None or status is None else status
        if self._pollers and self._mqtt is None:
            connected = any(detail is None for _, detail in self._http.values())
        known = [d for d in details if d]
        return Source(connected, status, "; ".join(dict.fromkeys(known))[:300] or None, dropped)

    async def run(self, producer: AIOKafkaProducer, prefix: str, stop: asyncio.Event) -> None:
        """Until ``stop``. Raises DeliveryFailed."""
        self._failed = asyncio.get_running_loop().create_future()
        self._prefix = prefix
        sender = asyncio.create_task(self._send(producer, prefix), name=f"{self.feed.name}-send")
        pump = asyncio.create_task(self._pump(stop), name=f"{self.feed.name}-pump")
        pollers = [asyncio.create_task(self._poll(p, stop), name=f"{self.feed.name}-poll") for p in self._pollers]
        if self._mqtt is not None:
            self._mqtt.start()
        stopping = asyncio.create_task(stop.wait())
        good = False
        try:
            watched: list[asyncio.Future[Any]] = [stopping, sender, self._failed, pump, *pollers]
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await asyncio.wait([pump], timeout=5)  # it sees ``stop`` by itself, and must not lose what it has in hand
            good = True
        finally:
            pollers += [task for _, task in self._followed.values()]
            for task in (stopping, pump, *pollers):
                task.cancel()
            if self._mqtt is not None:
                await asyncio.to_thread(self._mqtt.stop)
            await asyncio.gather(stopping, pump, *pollers, return_exceptions=True)
            for p in self._pollers:
                await p.close()
            if not good:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
        try:
            await asyncio.wait_for(self._finish(sender), 5)
        except TimeoutError as e:
            raise DeliveryFailed(f"{self.feed.name}: not everything was written within 5 s of the stop") from e
        if self._failed.done():
            self._failed.result()

    async def _finish(self, sender: asyncio.Task[None]) -> None:
        """What is still held goes out, with a last tick that says why it is the last."""
        await self._drain()
        async with self._lock:
            for g in self._gatherers:
                await self._put(g, g.tick(self._now_ms(), Source(False, None, "the connector was stopped", self._dropped())))
        await self._queue.put(None)
        await sender

    async def _pump(self, stop: asyncio.Event) -> None:
        """Empties MQTT's buffer, lets envelopes leave in time, ticks."""
        next_tick = self._now_ms()
        while not stop.is_set():
            await self._drain()
            now = self._now_ms()
            async with self._lock:
                for g in self._gatherers:
                    # A clock that was set back stands still in the log until it has caught up; nothing waits for that.
                    if g.due_ms is not None and (g.due_ms <= now or now + MAX_WAIT_MS < g.last_ms):
                        await self._put(g, g.flush())
                if now >= next_tick or now + TICK_MS < next_tick:
                    source = self.source()
                    for g in self._gatherers:
                        await self._put(g, g.tick(now, source))
                    next_tick = now + TICK_MS
            self._count_dropped()
            await asyncio.sleep(DRAIN_S)

    async def _drain(self) -> None:
        if self._mqtt is None:
            return
        items = self._mqtt.drain()
        if not items:
            return
        async with self._lock:
            for item in items:
                g = self._gatherers[partition_of(self.feed, item.topic)]
                full = g.add(item)
                if full:
                    await self._put(g, full)
        self._metrics.messages.labels(*self._labels).inc(len(items))
        self._metrics.bytes.labels(*self._labels).inc(sum(len(i.body) for i in items))
        self._metrics.last_ingest.labels(*self._labels).set(items[-1].ingest_ms / 1000)

    async def _poll(self, poller: Poller, stop: asyncio.Event) -> None:
        """Ask again and again; the wait after an error doubles, with jitter, up to a minute or the document's own interval."""
        settings, failures = poller.settings, 0
        while not stop.is_set():
            started = time.monotonic()
            wait = settings.every_s
            try:
                answer = await poller.ask()
                await self._take(poller.settings, answer)
                if self._discover is not None and answer.body is not None:
                    self._follow(poller, answer.body, stop)
                failures = 0
            except Unavailable as e:
                failures += 1
                self._http[settings.url] = (e.status, str(e))
                backoff = min(settings.every_s * 2 ** min(failures, 16), max(MAX_BACKOFF_S, settings.every_s)) * self._jitter.uniform(
                    0.75, 1.25
                )
                if settings.every_s > MAX_BACKOFF_S:  # a document of the day is asked for again within minutes
                    backoff = min(2.0 ** min(failures, 8), 300.0) * self._jitter.uniform(0.75, 1.25)
                wait = max(backoff, e.retry_after_s or 0.0)
                log.warning(
                    "poll failed", extra={"feed": self.feed.name, "url": settings.url, "detail": str(e), "again_in_s": round(wait, 1)}
                )
            except Refused as e:
                failures = 0
                await self._refuse(settings, e)
            left = wait if failures else wait - (time.monotonic() - started)
            await _sleep(stop, max(left, 0.05))

    async def _take(self, settings: Http, answer: Answer) -> None:
        self._http[settings.url] = (answer.status, None)
        if answer.body is None:
            return
        bodies = [answer.body] if self._cut is None else await asyncio.to_thread(self._cut, answer.body)
        for body in bodies:
            if len(body) > 3 * MAX_MESSAGE_BYTES:
                raise Refused("body unpacked", len(body), f"at most {3 * MAX_MESSAGE_BYTES} bytes, to fit a message of Kafka", body[:4096])
        self._metrics.messages.labels(*self._labels).inc()
        self._metrics.bytes.labels(*self._labels).inc(len(answer.body))
        for body in bodies:
            item = Item(self._now_ms(), answer.url.partition("?")[0], body)
            self._metrics.last_ingest.labels(*self._labels).set(item.ingest_ms / 1000)
            async with self._lock:
                g = self._gatherers[0]
                await self._put(g, g.snapshot(item))

    def _follow(self, poller: Poller, body: bytes, stop: asyncio.Event) -> None:
        """Poll what a discovery document names, and no longer what it names no more."""
        assert self._discover is not None
        found = self._discover(poller.settings, self.feed, body)
        if found is None:
            return
        wanted, wrong = {h.url: h for h in found[0]}, found[1]
        if wrong:
            self._http[poller.settings.url] = (200, "; ".join(wrong))
            log.warning("not followed", extra={"feed": self.feed.name, "url": poller.settings.url, "detail": "; ".join(wrong)})
        known = {p.settings.url for p in self._pollers} - self._followed.keys()
        for url in [u for u in self._followed if u not in wanted]:
            gone, task = self._followed.pop(url)
            task.cancel()
            self._pollers.remove(gone)
            self._http.pop(url, None)
        for url, settings in wanted.items():
            if url in known or url in self._followed:
                continue
            new = self._poller(settings, f"{self.city.name}.toml", f"feeds.{self.feed.name}.http")
            task = asyncio.create_task(self._poll_and_close(new, stop), name=f"{self.feed.name}-poll")
            task.add_done_callback(self._check_task)
            self._followed[url] = new, task
            self._pollers.append(new)

    async def _poll_and_close(self, poller: Poller, stop: asyncio.Event) -> None:
        try:
            await self._poll(poller, stop)
        finally:
            await poller.close()

    def _check_task(self, task: asyncio.Task[None]) -> None:
        """Our own bug in a poller that was started on the way ends the feed, as in any other."""
        e = None if task.cancelled() else task.exception()
        if e is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(e)

    async def _refuse(self, settings: Http, e: Refused) -> None:
        """A body over the limits: feed-health hears it by the next tick, its start becomes a dead letter."""
        self._http[settings.url] = (200, f"refused: {e}")
        self._metrics.refused.labels(*self._labels).inc()
        log.warning("document refused", extra={"feed": self.feed.name, "url": settings.url, "detail": str(e)})
        await self._queue.put(
            DeadLetter(
                city=self.city.name,
                feed=self.feed.name,
                topic=raw_topic(self.city.name, self.feed.name, self._prefix),
                partition=0,
                offset=-1,
                index=-1,
                ingest_time=rfc3339(self._now_ms()),
                reason="over_limit",
                field=e.field,
                value=str(e.value)[:200],
                want=e.want,
                error=f"{self.feed.name}: {e}",
                sha256=hashlib.sha256(e.start).hexdigest(),
                source_topic=settings.url.partition("?")[0],
                body_base64=base64.b64encode(e.start).decode(),
            )
        )

    async def _put(self, g: Gatherer, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            await self._queue.put((g.partition, envelope))

    async def _send(self, producer: AIOKafkaProducer, prefix: str) -> None:
        """One after the other into Kafka, several on their way at a time."""
        raw, dead = raw_topic(self.city.name, self.feed.name, prefix), dead_letter_topic(self.city.name, prefix)
        under_way: set[asyncio.Future[Any]] = set()
        while (one := await self._queue.get()) is not None:
            if isinstance(one, DeadLetter):
                sent = producer.send(dead, encode_record(one), key=one.feed.encode(), timestamp_ms=self._now_ms())
            else:
                partition, envelope = one
                sent = producer.send(raw, encode(envelope), partition=partition, timestamp_ms=envelope.ingest_ms, headers=headers(envelope))
                self._metrics.envelopes.labels(*self._labels).inc()
            future = await _delivered(sent)
            under_way.add(future)
            future.add_done_callback(under_way.discard)
            future.add_done_callback(self._check)
        if under_way:
            await _delivered(asyncio.gather(*under_way))

    def _check(self, future: asyncio.Future[Any]) -> None:
        e = None if future.cancelled() else future.exception()
        if e is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(DeliveryFailed(f"{self.feed.name}: {type(e).__name__}: {e}"))

    def _dropped(self) -> int:
        return self._mqtt.dropped if self._mqtt is not None else 0

    def _count_dropped(self) -> None:
        dropped = self._dropped()
        if dropped > self._dropped_before:
            self._metrics.dropped.labels(*self._labels).inc(dropped - self._dropped_before)
            self._dropped_before = dropped


async def _delivered(sent: Awaitable[Any]) -> Any:
    try:
        return await sent
    except KafkaError as e:
        raise DeliveryFailed(f"{type(e).__name__}: {e}") from e


def _packed(body: bytes) -> int:
    return len(cramjam.zstd.compress(body)) if has_zstd() else len(body)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
