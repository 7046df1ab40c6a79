"""`check` and `conform` on feeds that answer, that do not, and that answer nonsense, from a server of this machine; and on the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from aiokafka.admin import NewTopic
from click.testing import CliRunner, Result
from google.transit import gtfs_realtime_pb2 as pb

from commands import broker_state, live
from connectors import envelope as envelopes
from connectors.cities import load
from connectors.envelope import SCHEMA, Envelope, Source
from connectors.kafka import make_admin, make_producer
from geo import store
from models.clock import rfc3339
from models.errors import EXIT_CONFIG, EXIT_FAILED
from models.records import FeedHealth, encode
from models.topics import open_topic
from tests.streams import kit
from tilannekuva import cli

CITY = """
name = "checked"
title = "Checked"
timezone = "Europe/Helsinki"
crs = "EPSG:3067"
licence = "CC-BY-4.0"
attribution = ["Nobody"]
[box]
south = 60.0
west = 24.0
north = 60.5
east = 25.5
"""
FEED = """
[feeds.{name}]
family = "{family}"
cadence_s = 5
allow_private = true
optional = {optional}
http = [{{ url = "{url}/{path}", every_s = 1{more} }}]
"""


def positions() -> bytes:
    """Two buses now, one that stopped speaking a year ago."""
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = int(time.time())
    for k in range(3):
        v = message.entity.add(id=str(k)).vehicle
        v.vehicle.id, v.timestamp = f"bus{k}", int(time.time()) - (365 * 86_400 if k == 2 else 1)
        v.position.latitude, v.position.longitude = kit.degrees(kit.EAST + 100.0 * k, kit.NORTH)
    return message.SerializeToString()


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/vp": positions(), "/html": b"<html>sorry</html>"}.get(self.path, b"")
        self.send_response(401 if self.path == "/closed" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def city(folder: Path, url: str, *feeds: str) -> Path:
    known = {
        "buses": ("gtfs_realtime", "vp", False, ""),
        "closed": ("gtfs_realtime", "closed", False, ""),
        "nonsense": ("gtfs_realtime", "html", False, ""),
        "secret": ("gtfs_realtime", "vp", True, ', username_env = "CHECKED_ID", password_env = "CHECKED_SECRET"'),
    }
    path = folder / "checked.toml"
    tables = [
        FEED.format(name=f, family=known[f][0], path=known[f][1], optional=str(known[f][2]).lower(), url=url, more=known[f][3])
        for f in feeds
    ]
    path.write_text(CITY + "".join(tables))
    store.save(kit.network(), folder / "network")
    return path


def run(folder: Path, command: str, path: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, str(path), "--network", str(folder / "network"), "--for", "3", *more])


def test_check_says_in_words_how_each_feed_is(tmp_path: Path, url: str) -> None:
    r = run(tmp_path, "check", city(tmp_path, url, "buses", "closed", "nonsense", "secret"))
    assert r.exit_code == EXIT_FAILED, r.output
    lines = [line[11:] for line in r.output.splitlines() if line.startswith("feed ")]
    states = {line[12:].split()[0]: line[:12].strip() for line in lines}
    assert states == {"buses": "degraded", "closed": "unreachable", "nonsense": "unreadable", "secret": "left alone"}
    assert "HTTP 401" in r.output
    assert "CHECKED_SECRET" in r.output


def test_check_of_a_living_city_ends_well(tmp_path: Path, url: str) -> None:
    r = run(tmp_path, "check", city(tmp_path, url, "buses"))
    assert "clock" in r.output  # a year old: refused, with its reason
    assert "on streets" in r.output
    assert run(tmp_path, "check", city(tmp_path, url, "closed"), "--for", "0").exit_code == 0


def test_conform_runs_against_the_live_feeds_for_a_while(tmp_path: Path, url: str) -> None:
    r = run(tmp_path, "conform", city(tmp_path, url, "buses"))
    assert r.exit_code == 0, r.output
    assert "every product keeps its contract" in r.output
    assert "vehicle-position" in r.output
    r = run(tmp_path, "conform", city(tmp_path, url, "buses", "closed", "secret"))
    assert r.exit_code == EXIT_FAILED
    assert "FAULT closed: not reached: HTTP 401" in r.output
    assert "secret is left alone" in r.output


def test_a_setting_that_is_wrong_is_said_before_anything_is_reached(tmp_path: Path, url: str) -> None:
    path = city(tmp_path, url, "buses")
    path.write_text(path.read_text().replace("cadence_s", "cadense_s"))
    assert run(tmp_path, "check", path).exit_code == EXIT_CONFIG


@pytest.mark.kafka
async def test_check_reads_from_the_broker_how_old_each_topic_is_and_how_the_feeds_are(kafka: str, tmp_path: Path) -> None:
    c = load(city(tmp_path, "http://127.0.0.1:9", "buses", "closed", "nonsense"))
    now_ms = 1_773_120_600_000
    admin = make_admin(kafka)
    await admin.start()
    await admin.create_topics([NewTopic(open_topic(c.name, "feed-health"), 1, 1)])
    await admin.close()
    producer = make_producer(kafka, "test")
    await producer.start()
    for feed, state, age_ms in (("closed", "ok", 600_000), ("buses", "ok", 10_000), ("buses", "stale", 5_000)):
        at = now_ms - age_ms
        record = FeedHealth(feed=feed, event_time=rfc3339(at), state=state, since=rfc3339(at), messages_s=1.0, detail="x")  # type: ignore[arg-type]
        await producer.send_and_wait(open_topic(c.name, "feed-health"), encode(record), key=feed.encode(), timestamp_ms=at, partition=0)
    await producer.stop()
    lines = await broker_state.lines(c, kafka, now_ms)
    health = {line.split()[2]: (line.split()[1], good) for line, good in lines if line.startswith("health")}
    assert health == {"buses": ("stale", False), "closed": ("unknown", False), "nonsense": ("unknown", False)}
    (topic,) = [line for line, _ in lines if open_topic(c.name, "feed-health") in line]
    assert "5 s old" in topic
    assert ("topic      missing     raw.checked.buses", False) in lines


async def test_that_the_check_stops_listening_is_no_trouble_of_the_feed() -> None:
    heard, stop = live.Heard(), asyncio.Event()
    memory = live._Memory(heard, "buses", "raw.x.buses", stop)
    tick = Envelope(SCHEMA, "x", "buses", "gtfs_realtime", "tick", 1, (), Source(True, 200, None))
    await memory.send("raw.x.buses", envelopes.encode(tick))
    stop.set()
    await memory.send(
        "raw.x.buses", envelopes.encode(msgspec.structs.replace(tick, source=Source(False, None, "the connector was stopped")))
    )
    assert [e.source for _, _, e in heard.log] == [Source(True, 200, None)]
