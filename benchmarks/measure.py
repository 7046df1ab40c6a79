"""What every benchmark needs: the machine and versions behind a figure, CPU of a child process, medians, and the same facts as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What a benchmark may keep between runs: built networks, peers' environments. Ignored by git.
CACHE = ROOT / ".cache"
PACKAGES = ("faust-streaming", "aiokafka", "numpy", "msgspec", "cramjam", "paho-mqtt")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def versions(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of Python, our dependencies and whatever else a figure depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        found["commit"] = done.stdout.strip()
    return found | dict(extra or {})


@dataclass(frozen=True)
class Cost:
    """What a child process took, from its start to its end."""

    cpu_s: float  #: user and system, of it and of the children that it waited for
    wall_s: float
    peak_mb: float | None  #: resident memory, where ``/proc`` tells


class ChildFailed(RuntimeError):
    """A measured process ended with another code than 0; the message holds the end of its log."""


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 900.0,
    every: Callable[[int, float], None] | None = None,
    every_s: float = 0.5,
) -> Cost:
    """Run a command to its end and say what it cost.

    Args:
        log: where its output goes.
        every: called with its process id and the seconds since its start, every ``every_s``.

    Raises:
        ChildFailed: another exit code than 0, or not done within ``timeout_s``.
    """
    began = time.monotonic()
    with log.open("ab") as out:
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out, env={**os.environ, **(env or {})}, cwd=cwd or ROOT)
        try:
            return finish(child, log, began, timeout_s=timeout_s, every=every, every_s=every_s)
        finally:
            if child.returncode is None:  # interrupted
                child.kill()
                child.wait()


def finish(
    child: subprocess.Popen[bytes],
    log: Path,
    began: float,
    *,
    timeout_s: float = 900.0,
    every: Callable[[int, float], None] | None = None,
    every_s: float = 0.5,
) -> Cost:
    """Wait for a child and say what it cost; see ``run``."""
    next_call, peak = began, None
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        now = time.monotonic()
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            break
        if now >= next_call:
            peak = rss_mb(child.pid, "VmHWM") or peak
            if every is not None:
                every(child.pid, now - began)
            next_call = now + every_s
        if now - began > timeout_s:
            child.kill()
            child.wait()
            raise ChildFailed(f"not done within {timeout_s:g} s: {tail(log)}")
        time.sleep(0.02)
    if child.returncode != 0:
        raise ChildFailed(f"exit code {child.returncode}: {tail(log)}")
    return Cost(usage.ru_utime + usage.ru_stime, now - began, peak)


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "no log"


def rss_mb(pid: int, field: str = "VmRSS") -> float | None:
    """Resident memory of a process now (``VmHWM``: at most so far); None where ``/proc`` does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024.0 for line in status.splitlines() if line.startswith(field)), None)


def cpu_s(pid: int) -> float:
    """User and system time of a running process so far, from ``/proc``.

    Raises:
        OSError: no such process, or no ``/proc``.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(values: Iterable[float], digits: int = 0) -> dict[str, Any]:
    """Median, least and most of repeated measurements, and all of them in order.

    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'least': 1.0, 'most': 3.0, 'all': [3.0, 1.0, 2.0]}
    """
    found = [round(v, digits) for v in values]
    return {"median": statistics.median(found), "least": min(found), "most": max(found), "all": found}


def say(text: str = "") -> None:
    """One line of the report, at once."""
    print(text, flush=True)


def heading(title: str, what: Mapping[str, Any], with_versions: Mapping[str, Any]) -> None:
    """Title, machine and versions."""
    say(f"# {title}")
    say(f"machine   {what['cpu']}, {what['cores']} cores, {what['system']}; load before {what['load_before']}; {what['date']}")
    say("versions  " + ", ".join(f"{k} {v}" for k, v in with_versions.items()))


def write_json(file: Path | None, facts: Mapping[str, Any]) -> None:
    """The same facts for a program."""
    if file is not None:
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
