"""What may befall a feed of a broker: what its connector finds out, and that feed-health says it within 90 s of log time, with the reason, and that it is over."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from connectors.cities import City, load
from connectors.envelope import Source
from connectors.run import FeedConnector
from demo.servers import pick_port
from models.clock import parse_ms
from streams.offline import Run
from tests.connectors.mqtt_brokers import amqtt, mosquitto
from tests.connectors.test_mqtt import needs_mosquitto
from tests.connectors.test_troubles import Log
from tests.streams import kit

ILL, WELL, END = 60, 240, 360
STEP_S = 5


def city(url: str, **more: object) -> City:
    whole = load("helsinki", {"feeds.hfp.mqtt.url": url, "feeds.hfp.partitions": 1, "feeds.hfp.allow_private": True, **more})
    return msgspec.structs.replace(whole, feeds=(whole.feed("hfp"),), area=None)


async def found_out(c: City, env: dict[str, str], wanted: str) -> Source:
    """What the connector says of its source when it says ``wanted``."""
    connector, stop = FeedConnector(c, c.feed("hfp"), now_ms=lambda: kit.T0, env=env), asyncio.Event()
    task = asyncio.create_task(connector.run(Log("raw.helsinki.hfp"), "", stop))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(20):
            while not re.search(wanted, str(connector.source().detail)):
                await asyncio.sleep(0.05)
        return connector.source()
    finally:
        stop.set()
        await task


def health(c: City, source: Source | None) -> list[tuple[float, str, str]]:
    """Of a feed that is well, then ill (``source``; None: its broker is well and says nothing), then well again: seconds, state, detail."""
    run, told = Run(c, kit.network()), []
    for s in range(0, END, STEP_S):
        ill = ILL <= s < WELL
        envelopes = [] if ill else [kit.envelope([kit.hfp(kit.T0 + 1000 * (s + k), kit.at(0, 100.0)) for k in range(STEP_S)])]
        state = source if ill and source is not None else Source(connected=True)
        for e in [*envelopes, kit.tick(kit.T0 + 1000 * (s + STEP_S), source=state)]:
            told += kit.records(run.feed("hfp", 0, e), "feed-health")
    return [((parse_ms(r["event_time"]) - kit.T0) / 1000, r["state"], r.get("detail", "")) for r in told]


def told_and_over(c: City, source: Source | None, states: set[str], words: str) -> None:
    rows = health(c, source)
    assert {state for t, state, _ in rows if 15 < t <= ILL} == {"ok"}
    ill = [(state, detail) for t, state, detail in rows if ILL + 90 <= t <= WELL]
    assert ill
    assert {state for state, _ in ill} <= states
    assert all(re.search(words, detail) for _, detail in ill), ill
    assert {state for t, state, _ in rows if t >= WELL + 90} == {"ok"}


async def test_a_broker_that_is_gone() -> None:
    c = city(f"mqtt://127.0.0.1:{pick_port('127.0.0.1', 0, 'port')}")
    source = await found_out(c, {}, "refused")
    assert not source.connected
    told_and_over(c, source, {"degraded", "dead"}, "refused")


async def test_a_broker_with_a_certificate_of_nobody(tmp_path: Path) -> None:
    with amqtt(tmp_path) as at:
        c = city(at.url("mqtts"))
        source = await found_out(c, {}, "CERTIFICATE_VERIFY_FAILED")
    told_and_over(c, source, {"degraded", "dead"}, "CERTIFICATE_VERIFY_FAILED")


@needs_mosquitto
async def test_a_broker_that_refuses_the_login(tmp_path: Path) -> None:
    with mosquitto(tmp_path, password=("me", "right")) as at:
        c = city(at.url("mqtt"), **{"feeds.hfp.mqtt.username_env": "ME", "feeds.hfp.mqtt.password_env": "WORD"})
        source = await found_out(c, {"ME": "me", "WORD": "canary-wrong"}, "refused the connection")
    assert "canary" not in repr(source)
    told_and_over(c, source, {"degraded", "dead"}, "refused the connection")


async def test_a_host_that_does_not_exist_and_an_address_that_may_not_be_called() -> None:
    nowhere = city("mqtt://nowhere.invalid")
    told_and_over(nowhere, await found_out(nowhere, {}, "does not resolve"), {"degraded", "dead"}, "does not resolve")
    private = city("mqtt://127.0.0.1:1883", **{"feeds.hfp.allow_private": False})
    told_and_over(private, await found_out(private, {}, "not a public address"), {"degraded", "dead"}, "not a public address")


def test_a_broker_that_is_well_and_says_nothing() -> None:
    told_and_over(city("mqtt://127.0.0.1:1883"), None, {"stale"}, "nothing|silent|no message")
