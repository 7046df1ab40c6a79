"""Secrets of every kind in one city, and everything that the product says of it: commands, logs, topics, metrics and errors never show one."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from connectors.cities import load
from connectors.run import FeedConnector, Metrics
from demo.servers import pick_port
from geo import store
from tests.streams import kit

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "WALTTI_ID": "canary-id-7301", "WALTTI_SECRET": "canary-basic-7302", "API_KEY": "canary-key-7303", "BROKER_USER": "canary-user-7304", "BROKER_WORD": "canary-word-7305",
}  # fmt: skip
KAFKA = {
    "TILANNEKUVA_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "TILANNEKUVA_KAFKA_SASL_MECHANISM": "PLAIN", "TILANNEKUVA_KAFKA_SASL_USERNAME": "canary-kafka-7306",
    "TILANNEKUVA_KAFKA_SASL_PASSWORD": "canary-kafka-7307",
}  # fmt: skip
BASIC = base64.b64encode(f"{SECRETS['WALTTI_ID']}:{SECRETS['WALTTI_SECRET']}".encode()).decode()
HIDDEN = ("canary", BASIC)


@pytest.fixture
def asked() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A server that refuses in several ways, repeating what it was told in reason, headers and body."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(dict(self.headers))
            told = f"{self.headers.get('Authorization')} {self.headers.get('apikey')}"
            status = {"/refused": 401, "/moved": 302}.get(self.path.partition("?")[0], 500)
            self.send_response(status, told)
            self.send_header("X-You-Said", told)
            if status == 302:
                self.send_header("Location", f"http://elsewhere.example/?key={self.headers.get('apikey')}")
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, heard
    server.shutdown()
    thread.join()
    server.server_close()


def city_file(folder: Path, port: int) -> Path:
    """A feed a kind of secret; nobody answers as the broker."""
    url, nobody = f"http://127.0.0.1:{port}", pick_port("127.0.0.1", 0, "port")
    head = (ROOT / "tests" / "golden" / "fixture.toml").read_text("utf-8").partition("[feeds.")[0].replace("fixture", "town")
    feeds = f"""
[feeds.basic]
family = "gtfs_realtime"
cadence_s = 5
allow_private = true
http = [{{ url = "{url}/refused", every_s = 1, username_env = "WALTTI_ID", password_env = "WALTTI_SECRET" }}]

[feeds.key]
family = "gtfs_realtime"
cadence_s = 5
allow_private = true
http = [{{ url = "{url}/moved", every_s = 1, headers_env = {{ apikey = "API_KEY" }} }}, {{ url = "{url}/failed", every_s = 1, headers_env = {{ apikey = "API_KEY" }} }}]

[feeds.broker]
family = "hfp"
cadence_s = 5
allow_private = true
mqtt = {{ url = "mqtt://127.0.0.1:{nobody}", topics = ["/hfp/#"], username_env = "BROKER_USER", password_env = "BROKER_WORD" }}
"""
    (folder / "town.toml").write_text(head + feeds, "utf-8")
    return folder / "town.toml"


def hidden(text: str) -> bool:
    return not any(word in text for word in HIDDEN)


@pytest.mark.parametrize("command", [("check",), ("check", "--broker"), ("conform",), ("connect", "--broker")], ids=" ".join)
def test_no_command_shows_a_secret(command: tuple[str, ...], tmp_path: Path, asked: tuple[int, list[dict[str, str]]]) -> None:
    port, heard = asked
    town = city_file(tmp_path, port)
    store.save(store.versioned(dataclasses.replace(kit.network(), city="town")), tmp_path / "networks" / "town")
    more = [f"127.0.0.1:{pick_port('127.0.0.1', 0, 'port')}"] if "--broker" in command else ["--for", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tilannekuva", command[0], str(town), *command[1:], *more], cwd=ROOT, capture_output=True, timeout=120, check=False,
        env={**os.environ, **SECRETS, **KAFKA, "TILANNEKUVA_DATA": str(tmp_path)},
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode()
    assert said
    assert hidden(said), said
    if command in (("check",), ("conform",)):
        assert {"basic", "key", "broker"} <= set(said.replace(":", " ").split())
        assert any(h.get("Authorization") == f"Basic {BASIC}" for h in heard)
        assert any(h.get("apikey") == SECRETS["API_KEY"] for h in heard)
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p != town]
    assert all(hidden(p.read_bytes().decode("latin-1")) for p in written)


class _Topics:
    """Takes what Kafka would."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, topic: str, value: bytes, **more: Any) -> asyncio.Future[None]:
        self.sent.append((topic, value + repr(more).encode()))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def test_neither_topics_nor_metrics_nor_logs_show_a_secret(
    tmp_path: Path, asked: tuple[int, list[dict[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    city, topics, registry, stop = load(city_file(tmp_path, asked[0])), _Topics(), CollectorRegistry(), asyncio.Event()
    metrics = Metrics(registry)
    connectors = [FeedConnector(city, f, now_ms=lambda: 1_773_120_600_000, env=SECRETS, metrics=metrics) for f in city.feeds]
    tasks = [asyncio.create_task(c.run(topics, "", stop)) for c in connectors]  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while any(c.source().detail in (None, "not asked yet") for c in connectors):
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*tasks)
    assert topics.sent
    details = [c.source().detail or "" for c in connectors]
    shown = [
        *details,
        *(v.decode("latin-1") for _, v in topics.sent),
        generate_latest(registry).decode(),
        caplog.text,
        repr(connectors),
        repr(city),
    ]
    shown += [f"{r.getMessage()} {r.__dict__}" for r in caplog.records]
    assert all(hidden(s) for s in shown)
    assert "HTTP 401" in details[0]
