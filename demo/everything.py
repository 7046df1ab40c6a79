"""``demo`` and ``up``: every process of the product on one machine. Both start the same commands; they differ in the addresses of the city file, and the demo lets its
cities share processes."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from connectors import cities
from connectors.kafka import IDEMPOTENCE
from demo.recording import DATA, HELSINKI
from demo.run import DemoFeeds
from demo.servers import pick_port
from demo.supervise import Child, Supervisor, answers
from demo.towns import SECRETS, TOWNS
from deploy.kafka.broker import Broker, TansuBroker, start_broker
from geo import store
from geo.network import Network
from models.errors import EXIT_FAILED, ConfigError
from streams.archive_store import Store

#: What the demo shows unless told otherwise.
CITIES = ("helsinki", *TOWNS)
#: Seconds until what was read is in a file of the archive: a demo that is cut off at its end has most of it.
FLUSH_S = 20.0


def say(line: str) -> None:
    """Status for people."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _tilannekuva(*args: str) -> list[str]:
    return [sys.executable, "-m", "tilannekuva", *args]


def children(
    names: Sequence[str],
    broker: str,
    port: int,
    settings: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
    *,
    together: bool = False,
    archive: str | None = None,
) -> list[Child]:
    """The processes of a picture of some cities, in the order of their start.

    Args:
        names: of cities, or paths of their files.
        settings: ``KEY=VALUE`` by city.
        archive: folder or address that topics are archived to, and the past is shown from; None: nowhere.
        together: one process of workers and one of connectors, which takes a fraction of the memory; else one a city, so that each has a core to itself.
    """

    def sets(*of: str) -> list[str]:
        return [part for n in of for s in settings.get(n, ()) for part in ("--set", f"{Path(n).stem}:{s}")]

    past = ["--archive", archive] if archive is not None else []
    gateway = _tilannekuva("serve", *names, "--broker", broker, "--port", str(port), *past, *sets(*names))
    url = f"http://127.0.0.1:{port}/"
    out = [Child("serve", gateway, f"gateway and map on {url}", env, ready=answers(f"{url}healthz"))]
    connected = list(dict.fromkeys(cities.load(n).raw_of or n for n in names))
    if archive is not None:
        kept = list(dict.fromkeys([*names, *connected]))  # raw topics are archived with the city that connects to the feeds
        keeping = _tilannekuva("archive", *kept, "--to", archive, "--flush", f"{FLUSH_S:g}", "--broker", broker, *sets(*kept))
        out.append(Child("archive", keeping, f"topics into {archive.partition('?')[0]}", env))
    for command, of, doing in (("process", list(names), "matching and fusing"), ("connect", connected, "feeds into raw topics")):
        for group in [of] if together else [[n] for n in of]:
            label = command if together else f"{command}-{Path(group[0]).stem}"
            out.append(Child(label, _tilannekuva(command, *group, "--broker", broker, *sets(*group)), f"{', '.join(group)}: {doing}", env))
    return out


async def up(
    names: list[str], *, broker: str | None, for_s: float | None, port: int, embedded: bool, data: Path, settings: tuple[str, ...] = (),
    archive: str | None = None,
) -> int:  # fmt: skip
    """The live feeds of some cities. Returns the exit code."""
    connected = (cities.load(n).raw_of or n for n in names)
    own = dict.fromkeys([*names, *connected], settings)
    return await _all(names, broker=broker, for_s=for_s, port=port, embedded=embedded, data=data, settings=own, archive=archive)


async def demo(names: list[str], *, for_s: float | None, port: int, embedded: bool, data: Path, archive: str | None = None) -> int:
    """Simulated feeds from local servers. Returns the exit code.

    Raises:
        ConfigError: a city that the demo neither has a recording of nor invents.
    """
    for n in names:
        if n not in CITIES:
            raise ConfigError("command line", "--cities", n, f"some of {', '.join(CITIES)}")
    chosen = [cities.load(n) for n in dict.fromkeys(names)]
    names = [c.name for c in chosen]
    await asyncio.to_thread(shutil.rmtree, data / "broker", ignore_errors=True)  # what an earlier demo simulated is not history
    towns = await asyncio.to_thread(_networks, names, data / "networks")
    async with DemoFeeds(HELSINKI if any(c.raw_city == "helsinki" for c in chosen) else None, towns=towns) as feeds:
        say(f"SIMULATED feeds: MQTT {feeds.addresses.mqtt}, HTTP {feeds.addresses.http}")
        if towns:
            say(f"GENERATED streets: those of {', '.join(towns)} are invented")
        settings = {n: feeds.set_options(n)[1::2] for c in chosen for n in (c.name, c.raw_city)}
        env = {"TILANNEKUVA_DATA": str(data), **SECRETS}
        return await _all(
            names, broker=None, for_s=for_s, port=port, embedded=embedded, data=data, settings=settings, env=env, together=True,
            archive=archive,
        )  # fmt: skip


def _networks(names: Sequence[str], folder: Path) -> dict[str, Network]:
    """Puts the networks where workers look for them; returns those that are invented."""
    towns = {}
    for n in names:
        if n in TOWNS:
            towns[n] = TOWNS[n].network()
            store.save(towns[n], folder / n)
        else:
            shutil.copytree(DATA / n / "network", folder / n, dirs_exist_ok=True)
    return towns


async def _all(
    names: Sequence[str], *, broker: str | None, for_s: float | None, port: int, embedded: bool, data: Path,
    settings: Mapping[str, Sequence[str]], env: Mapping[str, str] | None = None, together: bool = False,
    archive: str | None = None,
) -> int:  # fmt: skip
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    env = dict(env or {})
    if archive is not None:
        Store(archive, make=True)  # the gateway looks into it at once
    async with AsyncExitStack() as stack:
        if broker is None:
            started = await asyncio.to_thread(_start, data / "broker", embedded)
            stack.push_async_callback(asyncio.to_thread, started.stop)
            say(started.sentence)
            broker = started.address
            if started.kind == "tansu":
                env[IDEMPOTENCE] = "off"  # it has no idempotent producer
        say(f"tilannekuva of {', '.join(names)}: http://127.0.0.1:{port}/   (Ctrl-C stops everything; logs: {data / 'log.jsonl'})")
        running = children(names, broker, port, settings, env, together=together, archive=archive)
        return await Supervisor(running, log_file=data / "log.jsonl", say=say).run(for_s)
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
