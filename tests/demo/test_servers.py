"""The local servers, over the loopback, seen as the live ones are seen: by an ordinary MQTT client, an HTTP client and the official bindings."""

from __future__ import annotations

import asyncio
import gzip
import queue
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
import pytest_asyncio
import trustme
from google.transit import gtfs_realtime_pb2
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from connectors import cities
from demo.documents import TMS as STATIONS
from demo.documents import VEHICLE_POSITIONS
from demo.run import DemoFeeds
from demo.servers import Tls
from models.clock import parse_ms
from models.errors import ConfigError

WAIT_S = 10.0
GZIP = {"Accept-Encoding": "gzip"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def feeds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[DemoFeeds, trustme.CA]]:
    folder, ca = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    async with DemoFeeds(mqtt_ws_port=0, mqtt_tls_port=0, tls=Tls(folder / "cert.pem", folder / "key.pem")) as running:
        yield running, ca


@contextmanager
def subscriber(url: str, ca: trustme.CA | None = None, topic: str = "/hfp/v2/journey/#") -> Iterator[queue.Queue[mqtt.MQTTMessage]]:
    parts, got = urlsplit(url), queue.Queue[mqtt.MQTTMessage]()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, transport="websockets" if parts.scheme == "ws" else "tcp", protocol=mqtt.MQTTv311)
    if parts.scheme == "ws":
        client.ws_set_options(path=parts.path)
    if ca is not None:
        context = ssl.create_default_context()
        ca.configure_trust(context)
        client.tls_set_context(context)
    client.on_connect = lambda c, *_: c.subscribe(topic)
    client.on_message = lambda _c, _u, message: got.put(message)
    client.connect_async(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    try:
        yield got
    finally:
        client.disconnect()
        client.loop_stop()


async def take(got: queue.Queue[mqtt.MQTTMessage], n: int) -> list[mqtt.MQTTMessage]:
    return [await asyncio.to_thread(got.get, timeout=WAIT_S) for _ in range(n)]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("door", ["mqtt", "mqtt_ws", "mqtt_tls"])
async def test_a_subscriber_gets_hfp_v2_as_it_happens(feeds: tuple[DemoFeeds, trustme.CA], door: str) -> None:
    running, ca = feeds
    with subscriber(getattr(running.addresses, door), ca if door == "mqtt_tls" else None) as got:
        messages = await take(got, 40)
    ages = []
    for message in messages:
        levels = message.topic.split("/")
        assert levels[:7] == ["", "hfp", "v2", "journey", "ongoing", "vp", "bus"]
        assert len(levels) == 19
        ((event, vp),) = msgspec.json.decode(message.payload).items()
        assert event == "VP"
        assert int(levels[7]) == vp["oper"]
        assert int(levels[8]) == vp["veh"]
        assert (levels[9], levels[10], levels[12]) == (vp["route"], vp["dir"], vp["start"])
        assert vp["tsi"] == parse_ms(vp["tst"]) // 1000
        ages.append(time.time() - parse_ms(vp["tst"]) / 1000)
    assert -1 < sorted(ages)[len(ages) // 2] < 5


@pytest.mark.asyncio(loop_scope="module")
async def test_the_tls_door_does_not_open_to_who_does_not_know_its_authority(feeds: tuple[DemoFeeds, trustme.CA]) -> None:
    door = urlsplit(feeds[0].addresses.mqtt_tls or "")
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(door.hostname, door.port, ssl=ssl.create_default_context())


@pytest.mark.asyncio(loop_scope="module")
async def test_vehicle_positions_are_read_by_the_official_bindings_and_are_fresh(feeds: tuple[DemoFeeds, trustme.CA]) -> None:
    async with aiohttp.ClientSession() as http, http.get(feeds[0].addresses.http + VEHICLE_POSITIONS) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/x-protobuf"
        feed = gtfs_realtime_pb2.FeedMessage.FromString(await answer.read())
    assert feed.header.gtfs_realtime_version == "2.0"
    assert -1 < time.time() - feed.header.timestamp < 30
    assert len(feed.entity) > 10
    ages = sorted(time.time() - e.vehicle.timestamp for e in feed.entity)
    assert ages[len(ages) // 2] < 60


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [STATIONS, f"{STATIONS}/data", f"{STATIONS}/sensor-constants"])
async def test_digitraffic_insists_on_gzip(feeds: tuple[DemoFeeds, trustme.CA], path: str) -> None:
    url = feeds[0].addresses.http + path
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        for refused in ("identity", "deflate", "gzip;q=0"):
            async with http.get(url, headers={"Accept-Encoding": refused}) as answer:
                assert answer.status == 406
        async with http.get(url, headers=GZIP) as answer:
            assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
            data = msgspec.json.decode(gzip.decompress(await answer.read()))
    assert -1 < time.time() - parse_ms(data["dataUpdatedTime"]) / 1000 < 16 * 60


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [STATIONS, f"{STATIONS}/data", f"{STATIONS}/sensor-constants", VEHICLE_POSITIONS])
async def test_an_answer_that_is_known_is_not_sent_again(feeds: tuple[DemoFeeds, trustme.CA], path: str) -> None:
    url = feeds[0].addresses.http + path
    async with aiohttp.ClientSession() as http:
        for _ in range(3):  # a new one may be published between the two requests
            async with http.get(url, headers=GZIP) as answer:
                etag = answer.headers["ETag"]
            async with http.get(url, headers=GZIP | {"If-None-Match": etag}) as answer:
                if answer.status == 304:
                    assert await answer.read() == b""
                    assert answer.headers["ETag"] == etag
                    break
        else:
            pytest.fail("never 304")
        async with http.get(url, headers=GZIP | {"If-None-Match": '"another"'}) as answer:
            assert answer.status == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_the_demo_city_differs_only_in_addresses_and_in_saying_simulated(feeds: tuple[DemoFeeds, trustme.CA]) -> None:
    real, demo, addresses = cities.load("helsinki"), feeds[0].city("helsinki"), feeds[0].addresses
    assert msgspec.structs.replace(demo, feeds=real.feeds) == real
    played = [f for f in real.feeds if f.name in ("hfp", "gtfs_rt", "tms")]
    assert [f.name for f in demo.feeds] == [f.name for f in played]
    for theirs, ours in zip(played, demo.feeds, strict=True):
        assert ours.simulated
        assert ours.allow_private
        undone = msgspec.structs.replace(
            ours, simulated=theirs.simulated, allow_private=theirs.allow_private, mqtt=theirs.mqtt, http=theirs.http
        )
        assert undone == theirs
        if theirs.mqtt is not None and ours.mqtt is not None:
            assert ours.mqtt.url == addresses.mqtt
            assert msgspec.structs.replace(ours.mqtt, url=theirs.mqtt.url) == theirs.mqtt
        for a, b in zip(theirs.http, ours.http, strict=True):
            assert b.url == addresses.http + urlsplit(a.url).path
            assert msgspec.structs.replace(b, url=a.url) == a
    assert cities.load("helsinki", feeds[0].overrides()) == demo
    options = feeds[0].set_options()
    assert set(options[::2]) == {"--set"}
    pairs = [option.split("=", 1) for option in options[1::2]]
    assert cities.load("helsinki", {key: msgspec.json.decode(value) for key, value in pairs}) == demo


@pytest.mark.asyncio(loop_scope="module")
async def test_every_address_of_the_demo_city_is_answered(feeds: tuple[DemoFeeds, trustme.CA]) -> None:
    async with aiohttp.ClientSession() as http:
        for feed in feeds[0].city().feeds:
            for document in feed.http:
                async with http.get(document.url, headers=document.headers | GZIP) as answer:
                    assert answer.status == 200, document.url


@pytest.mark.asyncio(loop_scope="module")
async def test_it_stops_within_five_seconds_while_clients_are_connected_and_frees_its_ports() -> None:
    running = DemoFeeds()
    async with running:
        door = urlsplit(running.addresses.mqtt)
        with subscriber(running.addresses.mqtt) as got:
            await take(got, 1)
            began = time.monotonic()
            await running.__aexit__(None, None, None)
            assert time.monotonic() - began < 5
    with socket.socket() as s:
        assert s.connect_ex((door.hostname or "", door.port or 0)) != 0
    with pytest.raises(RuntimeError, match="not running"):
        _ = running.addresses


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("key", ["mqtt_port", "http_port"])
async def test_a_busy_port_is_named_and_nothing_stays_open(key: str) -> None:
    tasks = asyncio.all_tasks()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{key} = {port}, expected a free port"):
            async with DemoFeeds(**{key: port}):
                pytest.fail("started")
    assert asyncio.all_tasks() <= tasks


def test_tls_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificate"):
        DemoFeeds(tmp_path, mqtt_tls_port=0)
