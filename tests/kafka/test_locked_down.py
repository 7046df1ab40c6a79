"""The processes as they run on a broker where nothing is allowed that was not granted: each with its own user, over TLS."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from connectors.envelope import encode, headers
from connectors.kafka import make_producer
from deploy.kafka.broker import free_port
from models.topics import raw_topic
from streams import replays
from tests.kafka.harness import PATIENCE_S, ROOT, Town
from tests.kafka.secure import Secure, started
from tests.streams import world

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    yield from started(tmp_path_factory.mktemp("secure"), "toytown")


def tilannekuva(*arguments: str, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TILANNEKUVA_KAFKA")}
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "tilannekuva", *arguments], cwd=ROOT, stdout=out, stderr=out, env={**plain, **env})


def as_admin(secure: Secure) -> dict[str, str]:
    return {
        "TILANNEKUVA_BROKER": secure.broker.address,
        "TILANNEKUVA_KAFKA_SECURITY_PROTOCOL": "SSL",
        "TILANNEKUVA_KAFKA_CA_FILE": str(secure.authority),
        "TILANNEKUVA_KAFKA_CERT_FILE": str(secure.admin_pem),
        **secure.passwords,
    }


def as_user(secure: Secure, role: str) -> dict[str, str]:
    user = role if role in ("gateway", "public") else f"{role}-toytown"
    file = secure.folder / "secrets" / role
    password = {"TILANNEKUVA_KAFKA_SASL_PASSWORD_FILE": str(file)} if file.exists() else {"TILANNEKUVA_KAFKA_SASL_PASSWORD": role}
    return {
        "TILANNEKUVA_BROKER": secure.public,
        "TILANNEKUVA_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TILANNEKUVA_KAFKA_CA_FILE": str(secure.authority),
        "TILANNEKUVA_KAFKA_SASL_USERNAME": user,
        **password,
    }


async def ended(process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(int(PATIENCE_S * 5)):
        if process.poll() is not None:
            assert process.returncode == 0, log.read_text()[-3000:]
            return
        await asyncio.sleep(0.2)
    process.kill()
    raise AssertionError(log.read_text()[-3000:])


def ask(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()
    except OSError:
        return 0, b""


async def test_every_process_does_its_work_with_its_own_rights_and_no_more(secure: Secure, tmp_path: Path) -> None:
    start_ms = int(time.time() * 1000) - 270_000
    town = Town(tmp_path, partitions=1, lines=world.recording(vehicles=4, seconds=240, start_ms=start_ms))
    city, log = str(town.city_file), tmp_path / "log"

    # an administrator makes topics, users, rights
    for arguments in (["topics", city, "--apply"], ["access", city, "--apply"], ["access", city, "--check"]):
        await ended(tilannekuva(*arguments, env=as_admin(secure), log=log), log)

    # a worker whose topics are not there would say so; a connector's user may write raw topics
    producer = make_producer(secure.public, "test", env=as_user(secure, "connect"))
    async with producer:
        for feed, partition, e in replays.log_of([town.recording], town.city, max_items=200, simulated=True):
            topic = raw_topic("toytown", feed)
            await producer.send_and_wait(topic, encode(e), key=b"k", partition=partition, timestamp_ms=e.ingest_ms, headers=headers(e))

    metrics, port = free_port(), free_port()
    worker = tilannekuva("process", city, "--network", str(town.network_folder), "--metrics-port", str(metrics), env=as_user(secure, "process"), log=log)  # fmt: skip
    apart = free_port()
    gateway = tilannekuva("serve", city, "--port", str(port), "--metrics-port", str(apart), env=as_user(secure, "gateway"), log=log)
    try:
        url = f"http://127.0.0.1:{port}/api/v1/cities/toytown/segments?limit=50"
        for _ in range(int(PATIENCE_S)):
            assert worker.poll() is None and gateway.poll() is None, log.read_text()[-3000:]  # noqa: PT018
            status, body = ask(url)
            if status == 200 and any(f["properties"].get("vehicle_count") for f in json.loads(body)["features"]):
                break
            await asyncio.sleep(1)
        else:
            raise AssertionError(f"{status} {body[:300]!r} {log.read_text()[-3000:]}")

        # the worker says when the broker's certificate ends
        _, figures = ask(f"http://127.0.0.1:{metrics}/metrics")
        assert f'tilannekuva_broker_certificate_expiry_seconds{{broker="{secure.public}"}}'.encode() in figures

        # the gateway's figures are not for everybody when they have a listener of their own
        assert ask(f"http://127.0.0.1:{port}/metrics")[0] == 404
        assert b"tilannekuva_gateway_ready 1.0" in ask(f"http://127.0.0.1:{apart}/metrics")[1]

        # a stranger reads what is open, with a group of its own
        consumer = AIOKafkaConsumer(
            "mobility.toytown.vehicle-position.v1", bootstrap_servers=secure.public, group_id="public.me", auto_offset_reset="earliest",
            **secure.user("public"),
        )  # fmt: skip
        await consumer.start()
        try:
            record = json.loads((await asyncio.wait_for(consumer.getone(), 60)).value)
        finally:
            await consumer.stop()
        assert record["simulated"] is True
        await ended(tilannekuva("access", "--revoke", "archive-toytown", env=as_admin(secure), log=log), log)
        assert "4 rights taken from archive-toytown" in log.read_text()
    finally:
        for process in (worker, gateway):
            process.terminate()
        codes = [process.wait(30) for process in (worker, gateway)]
    assert codes == [0, 0]
    said = log.read_text()
    assert not any(secret in said for name, secret in secure.passwords.items() if name != "TILANNEKUVA_PASSWORD_PUBLIC")
