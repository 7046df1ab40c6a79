"""A live set-up on loopback for the benchmarks of the connector and of latency: an MQTT broker, our processes, the fleet's publisher."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.measure import ROOT, ChildFailed, Cost, finish, tail
from deploy.kafka.broker import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
#: amqtt in a process of its own, where mosquitto is not installed.
AMQTT = """
import asyncio, sys
from demo.servers import Listener, mqtt_broker
async def main():
    async with mqtt_broker("127.0.0.1", {"default": Listener("tcp", int(sys.argv[1]))}):
        await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def mqtt(work: Path) -> Iterator[tuple[int, str]]:
    """A local MQTT broker: its port and its name. It queues without limit, so that nothing is lost but by the connector."""
    port = free_port()
    if MOSQUITTO:
        config = work / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence false\n")
        command, name = [MOSQUITTO, "-c", str(config)], "mosquitto"
    else:
        command, name = [sys.executable, "-c", AMQTT, str(port)], "amqtt"
    with (work / "mqtt.log").open("wb") as log:
        broker = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            time.sleep(0.05)
        else:
            raise ChildFailed(f"{name} did not start: {tail(work / 'mqtt.log')}")
        yield port, name
    finally:
        broker.terminate()
        broker.wait(10)


class Process:
    """One of our processes, until it is stopped."""

    def __init__(self, work: Path, name: str, arguments: Sequence[str | Path]) -> None:
        self.name, self.log, self.began = name, work / f"{name}.log", time.monotonic()
        with self.log.open("wb") as out:
            self.child = subprocess.Popen([sys.executable, ROOT / "tilannekuva.py", *map(str, arguments)], stdout=out, stderr=out, cwd=ROOT)

    def says(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until its log holds a text."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log.read_text(errors="replace"):
            self._alive(deadline, text)

    def answers(self, url: str, timeout_s: float = 120.0) -> None:
        """Wait until an address of it answers with 200."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError), urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
            self._alive(deadline, url)

    def _alive(self, deadline: float, what: str) -> None:
        if self.child.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed(f"{self.name}: no {what}: {tail(self.log)}")
        time.sleep(0.1)

    def stop(self) -> Cost:
        """SIGTERM; what it cost in its whole life."""
        os.kill(self.child.pid, signal.SIGTERM)
        return finish(self.child, self.log, self.began, timeout_s=(time.monotonic() - self.began) + 60)


@contextmanager
def processes() -> Iterator[list[Process]]:
    """A list to put processes into; those that still run are ended when it is left."""
    running: list[Process] = []
    try:
        yield running
    finally:
        for p in reversed(running):
            if p.child.returncode is None:
                p.child.kill()
                p.child.wait()


def publisher(port: int, network: Path, vehicles: int, seconds: int) -> subprocess.Popen[str]:
    """The fleet, about to speak; ``told`` gives what it says at its end."""
    command = [sys.executable, ROOT / "benchmarks" / "publisher.py", str(port), network, str(vehicles), str(seconds)]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)


def told(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What a publisher said at its end."""
    out, _ = child.communicate()
    if child.returncode != 0:
        raise ChildFailed(f"the publisher ended with {child.returncode}")
    facts: dict[str, Any] = json.loads(out)
    return facts


def connect_arguments(city: str, broker: str, prefix: str, port: int) -> list[str]:
    """Of a connector that listens to the local MQTT broker."""
    overrides = [f"feeds.hfp.mqtt.url=mqtt://127.0.0.1:{port}", "feeds.hfp.allow_private=true"]
    return ["connect", city, "hfp", "--broker", broker, "--prefix", prefix, *(x for o in overrides for x in ("--set", o))]
