"""Local MQTT brokers for tests: amqtt (from pip, MQTT 3.1.1) and mosquitto (where Debian has it, 3.1.1 and 5); plain, TLS and WebSocket listeners."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


@dataclass(frozen=True)
class Ports:
    tcp: int
    tls: int
    ws: int
    wss: int
    ca: Path

    def url(self, scheme: str) -> str:
        return {
            "mqtt": f"mqtt://localhost:{self.tcp}",
            "mqtts": f"mqtts://localhost:{self.tls}",
            "ws": f"ws://localhost:{self.ws}/mqtt",
            "wss": f"wss://localhost:{self.wss}/mqtt",
        }[scheme]


def ports(folder: Path) -> Ports:
    """Four free ports, and a certificate for localhost."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    numbers = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(c.bytes() for c in certificate.cert_chain_pems))
    return Ports(*numbers, folder / "ca.pem")


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on {port}")


@contextmanager
def amqtt(folder: Path) -> Iterator[Ports]:
    from amqtt.broker import Broker

    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    at = ports(folder)
    tls = {"ssl": True, "certfile": str(folder / "cert.pem"), "keyfile": str(folder / "key.pem")}
    config = {
        "listeners": {
            "default": {"type": "tcp", "bind": f"127.0.0.1:{at.tcp}"},
            "tls": {"type": "tcp", "bind": f"127.0.0.1:{at.tls}", **tls},
            "ws": {"type": "ws", "bind": f"127.0.0.1:{at.ws}"},
            "wss": {"type": "ws", "bind": f"127.0.0.1:{at.wss}", **tls},
        },
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    loop = asyncio.new_event_loop()
    box: list[Broker] = []

    async def start() -> None:
        box.append(Broker(config))
        await box[0].start()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    wait_for(at.tcp)
    try:
        yield at
    finally:
        asyncio.run_coroutine_threadsafe(box[0].shutdown(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@contextmanager
def mosquitto(folder: Path, *, at: Ports | None = None, password: tuple[str, str] | None = None) -> Iterator[Ports]:
    assert MOSQUITTO is not None
    at = at or ports(folder)
    tls = f"cafile {folder}/ca.pem\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
    lines = "allow_anonymous true\n"
    if password is not None:
        made = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([made, "-b", "-c", str(folder / "passwords"), *password], check=True)
        (folder / "passwords").chmod(0o644)
        lines = f"allow_anonymous false\npassword_file {folder}/passwords\n"
    (folder / "mosquitto.conf").write_text(
        f"user root\n{lines}"
        f"listener {at.tcp} 127.0.0.1\n"
        f"listener {at.tls} 127.0.0.1\n{tls}"
        f"listener {at.ws} 127.0.0.1\nprotocol websockets\n"
        f"listener {at.wss} 127.0.0.1\nprotocol websockets\n{tls}"
    )
    process = subprocess.Popen([MOSQUITTO, "-c", str(folder / "mosquitto.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(at.tcp)
        yield at
    finally:
        process.terminate()
        process.wait(10)
