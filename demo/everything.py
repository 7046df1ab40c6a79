"""``demo`` and ``up``: every process of the product on one machine. Both start the same four commands; they differ in the addresses of the city file."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from connectors.kafka import IDEMPOTENCE
from demo.recording import HELSINKI
from demo.run import DemoFeeds
from demo.servers import pick_port
from demo.supervise import Child, Supervisor, answers
from deploy.kafka.broker import Broker, TansuBroker, start_broker
from models.errors import EXIT_FAILED, ConfigError


def say(line: str) -> None:
    """Status for people."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _tilannekuva(*args: str) -> list[str]:
    return [sys.executable, "-m", "tilannekuva", *args]


def children(
    names: list[str], broker: str, port: int, settings: dict[str, list[str]], networks: dict[str, Path], env: dict[str, str]
) -> list[Child]:
    """The processes of a picture of some cities, in the order of their start."""
    sets = {n: [part for s in settings.get(n, []) for part in ("--set", s)] for n in names}
    served = sets[names[0]] if len(names) == 1 else []
    gateway = _tilannekuva("serve", *names, "--broker", broker, "--port", str(port), *served)
    url = f"http://127.0.0.1:{port}/"
    out = [Child("serve", gateway, f"gateway and map on {url}", ready=answers(f"{url}healthz"))]
    for n in names:
        network = ["--network", str(networks[n])] if n in networks else []
        out.append(
            Child(f"process-{n}", _tilannekuva("process", n, "--broker", broker, *network, *sets[n]), f"{n}: matching and fusing", env)
        )
    for n in names:
        out.append(Child(f"connect-{n}", _tilannekuva("connect", n, "--broker", broker, *sets[n]), f"{n}: feeds into raw topics", env))
    return out


async def up(
    names: list[str], *, broker: str | None, for_s: float | None, port: int, embedded: bool, data: Path, settings: tuple[str, ...] = ()
) -> int:
    """The live feeds of some cities. Returns the exit code."""
    return await _all(
        names, broker=broker, for_s=for_s, port=port, embedded=embedded, data=data, settings={n: list(settings) for n in names}, networks={}
    )


async def demo(names: list[str], *, for_s: float | None, port: int, embedded: bool, data: Path) -> int:
    """Simulated feeds from local servers. Returns the exit code.

    Raises:
        ConfigError: a city that the demo has no recording of.
    """
    for n in names:
        if n != "helsinki":
            raise ConfigError("command line", "--cities", n, "helsinki: the demo has no recording of another city yet")
    await asyncio.to_thread(shutil.rmtree, data / "broker", ignore_errors=True)  # what an earlier demo simulated is not history
    async with DemoFeeds() as feeds:
        say(f"SIMULATED feeds: MQTT {feeds.addresses.mqtt}, HTTP {feeds.addresses.http}")
        settings = {n: feeds.set_options(n)[1::2] for n in names}
        networks = dict.fromkeys(names, HELSINKI / "network")
        return await _all(names, broker=None, for_s=for_s, port=port, embedded=embedded, data=data, settings=settings, networks=networks)


async def _all(
    names: list[str], *, broker: str | None, for_s: float | None, port: int, embedded: bool, data: Path, settings: dict[str, list[str]],
    networks: dict[str, Path],
) -> int:  # fmt: skip
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    env: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if broker is None:
            started = await asyncio.to_thread(_start, data / "broker", embedded)
            stack.push_async_callback(asyncio.to_thread, started.stop)
            say(started.sentence)
            broker = started.address
            if started.kind == "tansu":
                env[IDEMPOTENCE] = "off"  # it has no idempotent producer
        say(f"tilannekuva of {', '.join(names)}: http://127.0.0.1:{port}/   (Ctrl-C stops everything; logs: {data / 'log.jsonl'})")
        return await Supervisor(children(names, broker, port, settings, networks, env), log_file=data / "log.jsonl", say=say).run(for_s)
    return EXIT_FAILED


def _start(folder: Path, embedded: bool) -> Broker:
    """On Kafka's usual port where it is free, so that the README's examples find it."""
    try:
        port = pick_port("127.0.0.1", 9092, "port")
    except ConfigError:
        port = 0
    if not embedded:
        return start_broker(folder, port)
    broker = TansuBroker(folder, port)
    broker.start()
    broker.sentence = f"The embedded tansu broker on {broker.address}, as asked: memory only, so topics are gone when it stops."
    return broker
