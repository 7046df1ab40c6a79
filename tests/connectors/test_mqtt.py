"""MQTT against brokers of this machine: 3.1.1 and 5, plain, TLS and WebSocket; what happens when they end, refuse, lie or flood."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt import publish

from connectors.cities import Mqtt
from connectors.envelope import Item
from connectors.mqtt import MAX_MESSAGE, MqttSource
from connectors.secrets import login
from models.errors import ConfigError
from tests.connectors.mqtt_brokers import MOSQUITTO, Ports, amqtt, mosquitto

TOPIC = "/hfp/v2/journey/ongoing/vp/bus/0018/00423/2550/1/Itäkeskus (M)/07:24/1/0/60;24/19/75/80"
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian: apt-get install mosquitto)")
Start = Callable[..., MqttSource]


@pytest.fixture
def start() -> Iterator[Start]:
    sources: list[MqttSource] = []

    def begin(
        url: str,
        *,
        ca: Path | None = None,
        version: str = "3.1.1",
        topics: tuple[str, ...] = ("/hfp/v2/#",),
        allow_private: bool = True,
        wait: bool = True,
        **more: object,
    ) -> MqttSource:
        settings = Mqtt(url=url, topics=topics, version=version, ca_file=None if ca is None else str(ca), reconnect_s=0.1)  # type: ignore[arg-type]
        source = MqttSource(settings, name="test", now_ms=lambda: 42, allow_private=allow_private, random=random.Random(1), **more)  # type: ignore[arg-type]
        sources.append(source)
        source.start()
        if wait:
            until(lambda: source.connected, lambda: source.detail)
        return source

    yield begin
    for s in sources:
        s.stop()
    assert not [t for t in threading.enumerate() if t.name == "mqtt-test" and t.is_alive()]


def until(condition: Callable[[], object], why: Callable[[], object] = lambda: None, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


def send(at: Ports, *bodies: bytes, topic: str = TOPIC) -> None:
    publish.multiple([(topic, b, 0, False) for b in bodies], hostname="127.0.0.1", port=at.tcp)


def receive(source: MqttSource, n: int) -> list[Item]:
    got: list[Item] = []

    def enough() -> bool:
        got.extend(source.drain())
        return len(got) >= n

    until(enough, lambda: (len(got), source.detail))
    return got


@pytest.fixture(scope="module", params=["amqtt", pytest.param("mosquitto", marks=needs_mosquitto)])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Ports]]:
    with {"amqtt": amqtt, "mosquitto": mosquitto}[request.param](tmp_path_factory.mktemp(request.param)) as at:
        yield request.param, at


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_messages_come_in_order_with_the_time_of_their_receipt(broker: tuple[str, Ports], start: Start, scheme: str, version: str) -> None:
    name, at = broker
    if name == "amqtt" and version == "5":
        pytest.skip("amqtt speaks MQTT 3.1.1 only")
    source = start(at.url(scheme), ca=at.ca if scheme in ("mqtts", "wss") else None, version=version)
    send(at, *(str(k).encode() for k in range(50)))
    assert receive(source, 50) == [Item(42, TOPIC, str(k).encode()) for k in range(50)]
    assert (source.connected, source.detail, source.dropped) == (True, None, 0)


def test_a_certificate_of_nobody_known_is_not_believed(broker: tuple[str, Ports], start: Start) -> None:
    source = start(broker[1].url("mqtts"), wait=False)
    until(lambda: "CERTIFICATE_VERIFY_FAILED" in str(source.detail), lambda: source.detail)
    assert not source.connected


def test_a_full_buffer_drops_the_newest_and_counts_them(broker: tuple[str, Ports], start: Start) -> None:
    source = start(broker[1].url("mqtt"), buffer=10)
    send(broker[1], *(str(k).encode() for k in range(30)))
    until(lambda: source.dropped == 20, lambda: source.dropped)
    assert [i.body for i in source.drain()] == [str(k).encode() for k in range(10)]


def test_a_message_over_the_limit_is_dropped_and_counted(broker: tuple[str, Ports], start: Start) -> None:
    source = start(broker[1].url("mqtt"))
    send(broker[1], b"x" * (MAX_MESSAGE + 1), b"after")
    assert [i.body for i in receive(source, 1)] == [b"after"]
    assert source.dropped == 1


@needs_mosquitto
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_broker_that_comes_back_is_subscribed_to_again(tmp_path: Path, start: Start, version: str) -> None:
    with mosquitto(tmp_path) as at:
        source = start(at.url("mqtt"), version=version)
    until(lambda: not source.connected)
    until(lambda: source.detail is not None)
    with mosquitto(tmp_path, at=at):
        until(lambda: source.connected, lambda: source.detail)
        send(at, b"again")
        assert [i.body for i in receive(source, 1)] == [b"again"]


@needs_mosquitto
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_login_is_used_and_a_wrong_one_is_said_without_showing_it(
    tmp_path: Path, start: Start, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mosquitto(tmp_path, password=("me", "canary-right")) as at:
        right = start(at.url("mqtt"), version=version, login=("me", "canary-right"))
        assert right.connected
        wrong = start(at.url("mqtt"), version=version, login=("me", "canary-wrong"), wait=False)
        until(lambda: "refused the connection" in str(wrong.detail), lambda: wrong.detail)
        assert "canary" not in f"{wrong.detail} {right!r} {vars(right.__class__)} {caplog.text}"


def test_addresses_of_this_machine_are_refused_unless_allowed(broker: tuple[str, Ports], start: Start) -> None:
    source = start(broker[1].url("mqtt"), allow_private=False, wait=False)
    until(lambda: "not a public address" in str(source.detail), lambda: source.detail)
    assert not source.connected


def test_a_host_that_is_not_there_is_said_and_tried_again(start: Start) -> None:
    source = start("mqtt://nowhere.invalid", wait=False)
    until(lambda: "does not resolve" in str(source.detail), lambda: source.detail)


def test_a_secret_that_is_not_set_is_named_by_its_variable() -> None:
    with pytest.raises(
        ConfigError,
        match=r"helsinki\.toml: feeds\.x\.mqtt\.password_env = 'WALTTI_SECRET', expected the environment variable WALTTI_SECRET to be set",
    ):
        login({"WALTTI_ID": "a"}, "WALTTI_ID", "WALTTI_SECRET", "helsinki.toml", "feeds.x.mqtt")
    assert login({"WALTTI_ID": "a", "WALTTI_SECRET": "b"}, "WALTTI_ID", "WALTTI_SECRET", "f", "k") == ("a", "b")
    assert login({}, None, None, "f", "k") is None
