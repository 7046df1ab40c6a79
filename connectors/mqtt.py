"""MQTT 3.1.1 and 5 over TCP, TLS and WebSocket, by Eclipse paho: messages into a bounded buffer, with the time of their receipt.

One thread a connection, so that parsing of frames never waits for Kafka. When whoever drains the buffer is too slow, the newest messages are
dropped and counted: a broker's QoS 0 does the same, and what is already held is older data that somebody is waiting for.
"""

from __future__ import annotations

import collections
import logging
import random
import ssl
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from connectors import addresses
from connectors.cities import Mqtt
from connectors.envelope import Item
from models.errors import FeedUnavailable

#: Messages held between two drains, about ten seconds of the largest feed; 20 MB of HFP.
BUFFER = 20_000
#: A message larger than this is dropped and counted, bytes.
MAX_MESSAGE = 1024 * 1024
MAX_BACKOFF_S = 60.0
_CONNECT_S = 10.0
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
log = logging.getLogger(__name__)


class MqttSource:
    """One subscription, kept up until it is stopped."""

    def __init__(
        self,
        settings: Mqtt,
        *,
        name: str,
        now_ms: Callable[[], int],
        login: tuple[str, str] | None = None,
        allow_private: bool = False,
        buffer: int = BUFFER,
        random: random.Random | None = None,
    ) -> None:
        self.connected = False  #: subscribed, as the broker said
        self.detail: str | None = "not connected yet"
        self.dropped = 0
        self._settings, self._name, self._now_ms, self._login = settings, name, now_ms, login
        self._allow_private, self._limit = allow_private, buffer
        self._random = random or _random()
        self._held: collections.deque[Item] = collections.deque()
        self._stop = threading.Event()
        self._ready = False  #: since the last connection attempt the broker has taken the subscription
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{name}", daemon=True)
        url = urlsplit(settings.url)
        self._scheme, self._host, self._port = url.scheme, url.hostname or "", url.port or _PORTS[url.scheme]
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._tls = ssl.create_default_context(cafile=settings.ca_file) if url.scheme in ("mqtts", "wss") else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; returns when the thread has ended, within a second or two."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_CONNECT_S + 5)

    def drain(self) -> list[Item]:
        """What has come since the last call, in order of receipt."""
        take = self._held.popleft
        return [take() for _ in range(len(self._held))]

    def _run(self) -> None:
        wait = self._settings.reconnect_s
        while not self._stop.is_set():
            self._ready = False
            try:
                self._once()
                why = self.detail or "the connection ended"
            except FeedUnavailable as e:
                why = str(e)
            except (OSError, ValueError, paho.WebsocketConnectionError) as e:
                why = f"{type(e).__name__}: {e}"
            self.connected = False
            if self._stop.is_set():
                break
            if self._ready:
                wait = self._settings.reconnect_s
            pause = wait * self._random.uniform(1.0, 1.5)  # never sooner than the broker asks for
            self.detail = why
            log.warning("mqtt down", extra={"feed": self._name, "host": self._host, "detail": why, "again_in_s": round(pause, 1)})
            self._stop.wait(pause)
            wait = max(self._settings.reconnect_s, min(wait * 2, MAX_BACKOFF_S))

    def _once(self) -> None:
        """One connection, from connecting to its end."""
        addresses.resolve(self._host, self._port, self._allow_private)
        five = self._settings.version == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"tilannekuva-{self._name}-{self._random.getrandbits(40):010x}",
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            transport="websockets" if self._scheme in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._scheme in ("ws", "wss"):
            client.ws_set_options(path=self._path)
        if self._login is not None:
            client.username_pw_set(*self._login)
        client.on_connect, client.on_subscribe, client.on_disconnect = self._on_connect, self._on_subscribe, self._on_disconnect
        client.on_message = self._on_message
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_MESSAGE + 64 * 1024
        self.detail = "connecting"
        started_ms = self._now_ms()
        client.connect(self._host, self._port, self._settings.keepalive_s, properties=properties)
        try:
            while not self._stop.is_set():
                rc = client.loop(timeout=0.5)
                if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    if self.detail in (None, "connecting"):
                        self.detail = paho.error_string(rc)
                    return
                if not self._ready and self._now_ms() - started_ms > 2000 * _CONNECT_S:
                    raise FeedUnavailable("the broker took the connection but not the subscription")
        finally:
            self.connected = False
            if client.socket() is not None:
                client.disconnect()
                client.loop(timeout=0.1)

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self.detail = f"the broker refused the connection: {code}"
            client.disconnect()
            return
        topics: list[tuple[str, int]] = [(topic, self._settings.qos) for topic in self._settings.topics]
        client.subscribe(topics)

    def _on_subscribe(self, client: paho.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        refused = [str(c) for c in codes if c.is_failure]
        if refused:
            self.detail = f"the broker refused the subscription: {', '.join(refused)}"
            client.disconnect()
            return
        self.connected, self._ready, self.detail = True, True, None
        log.info("mqtt up", extra={"feed": self._name, "host": self._host})

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self.connected = False
        if self.detail is None:
            self.detail = f"the broker ended the connection: {code}"

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if len(self._held) >= self._limit or len(message.payload) > MAX_MESSAGE:
            self.dropped += 1
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:  # kept, so that the parser can refuse it with its body
            topic = bytes(message._topic).decode("utf-8", "replace")
        self._held.append(Item(self._now_ms(), topic, bytes(message.payload)))


def _random() -> random.Random:
    return random.SystemRandom()
