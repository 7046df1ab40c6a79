"""Runs the small job ("parse HFP, mean speed per route in 60 s windows of event time, publish the mean") on other frameworks, each in a process and, but for Faust, in an
environment of its own. The jobs themselves are in ``benchmarks/peers/``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import venv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.fleet import Fleet
from benchmarks.load import count_records, fill_plain, make_topic
from benchmarks.measure import CACHE, ChildFailed, Cost, run, tail

HERE = Path(__file__).resolve().parent / "peers"
ENVIRONMENT = CACHE / "peers"
INSTALLED = ENVIRONMENT / ".installed"
PEERS = ("faust", "faust_dict", "quix", "bytewax")


def peers_python() -> tuple[Path | None, str]:
    """The interpreter that has Quix Streams and Bytewax, installed if need be; or None and why not."""
    python, wanted = ENVIRONMENT / "bin" / "python", (HERE / "requirements.txt").read_text()
    if INSTALLED.exists() and INSTALLED.read_text() == wanted:
        return python, ""
    log = CACHE / "peers.log"
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        with log.open("wb") as out:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], stdout=out, stderr=out, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return None, f"could not be installed: {error}; {tail(log, 2)}"
    INSTALLED.write_text(wanted)
    return python, ""


def peers_versions(python: Path) -> dict[str, str]:
    """Of the packages in the peers' environment."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=False).stdout
    found = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    return {name: found[name] for name in ("quixstreams", "bytewax", "confluent-kafka") if name in found}


@dataclass(frozen=True)
class Plain:
    """A plain topic with messages, and one with a single message for the cost of starting."""

    topic: str
    first: str
    messages: int


def fill(bootstrap: str, fleet: Fleet, messages: int) -> Plain:
    """Write the topics that all peers read."""
    items = (item for second in fleet.seconds(-(-messages // fleet.n)) for item in second)
    first = next(items)
    asyncio.run(fill_plain(bootstrap, "plain-first", [first]))
    return Plain("plain", "plain-first", asyncio.run(fill_plain(bootstrap, "plain", islice(items, messages))))


def measure(peer: str, bootstrap: str, plain: Plain, work: Path, name: str, python: Path) -> tuple[float, Cost, Cost, int]:
    """One run of a peer: messages per CPU-second, its cost, the cost of starting, means published.

    Raises:
        ChildFailed: the job did not end well, or published nothing.
    """
    started, whole = (
        _run(peer, bootstrap, topic, n, work, f"{name}-{topic}", python) for topic, n in ((plain.first, 1), (plain.topic, plain.messages))
    )
    published = asyncio.run(count_records(bootstrap, {f"means-{name}-{plain.topic}": 1}))[f"means-{name}-{plain.topic}"]
    if not published:
        raise ChildFailed(f"{peer} published no means")
    return plain.messages / max(whole.cpu_s - started.cpu_s, 0.01), whole, started, published


def _run(peer: str, bootstrap: str, topic: str, messages: int, work: Path, name: str, python: Path) -> Cost:
    data = work / f"data-{name}"
    data.mkdir()
    asyncio.run(make_topic(bootstrap, f"means-{name}"))
    env = {
        "JOB_BROKER": bootstrap,
        "JOB_TOPIC": topic,
        "JOB_OUT": f"means-{name}",
        "JOB_MESSAGES": str(messages),
        "JOB_DATADIR": str(data),
        "JOB_GROUP": name,
    }
    command: list[str | Path] = [sys.executable if peer.startswith("faust") else python]
    command += ["-m", "bytewax.run", "bytewax_job:flow"] if peer == "bytewax" else [HERE / f"{peer}_job.py"]
    return run(command, log=work / f"{name}.log", env=env, cwd=HERE, timeout_s=900)
