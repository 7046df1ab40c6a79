"""The supervisor, with children that are one line of Python each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from demo.supervise import Child, Supervisor, answers, log_record

ROOT = Path(__file__).resolve().parents[2]
#: A child that says when it began and when it was told to stop, then stops.
POLITE = """
import signal, sys, time
def stop(*_):
    print('{"message": "stopping"}', flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('{"message": "up"}', flush=True)
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def child(name: str, code: str, **more: Any) -> Child:
    return Child(name, (sys.executable, "-S", "-c", textwrap.dedent(code)), "a test's child", **more)


def logged(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Run:
    """A supervisor under test, what it said and what its children logged."""

    def __init__(self, folder: Path, *children: Child, **settings: Any) -> None:
        self.said: list[str] = []
        self.log = folder / "log" / "children.jsonl"
        self.supervisor = Supervisor(children, log_file=self.log, say=self.said.append, **({"back_off_s": (0.02,)} | settings))

    async def run(self, for_s: float | None = None) -> int:
        return await asyncio.wait_for(self.supervisor.run(for_s), 20)

    async def until(self, name: str, message: str, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while sum(x["process"] == name and x["message"] == message for x in logged(self.log)) < times:
                await asyncio.sleep(0.02)

    def starts(self, name: str) -> int:
        return sum(line.startswith(f"{name}: a test's child") for line in self.said)


async def test_a_child_that_dies_is_started_again_and_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path, child("worker", """print('{"message": "lost the broker"}'); raise SystemExit(70)"""))
    task = asyncio.create_task(run.run())
    await run.until("worker", "lost the broker", times=3)
    run.supervisor.stop()
    assert await task == 0
    assert run.starts("worker") >= 3
    assert "worker: died with exit code 70: lost the broker; starts again in 0.02 s" in run.said


async def test_the_wait_grows_with_every_failure(tmp_path: Path) -> None:
    run = Run(tmp_path, child("worker", "raise SystemExit(1)"), back_off_s=(0.01, 0.02, 0.03))
    task = asyncio.create_task(run.run())
    while run.starts("worker") < 5:
        await asyncio.sleep(0.02)
    run.supervisor.stop()
    await task
    waits = [m[1] for line in run.said if (m := re.search(r"starts again in (.*) s", line))]
    assert waits[:4] == ["0.01", "0.02", "0.03", "0.03"]


async def test_a_child_that_finished_is_not_started_again_and_when_all_have_it_is_over(tmp_path: Path) -> None:
    run = Run(tmp_path, child("a", "pass"), child("b", "import time; time.sleep(0.2)"))
    assert await run.run() == 0
    assert (run.starts("a"), run.starts("b")) == (1, 1)
    assert "a: finished" in run.said
    assert "b: finished" in run.said


async def test_bad_configuration_of_one_ends_all_with_78(tmp_path: Path) -> None:
    run = Run(tmp_path, child("gateway", POLITE), child("connect", """print('{"message": "feeds.hfp.url = 3"}'); raise SystemExit(78)"""))
    assert await run.run() == 78
    assert run.starts("connect") == 1
    assert "connect: bad configuration: feeds.hfp.url = 3" in run.said


async def test_a_program_that_is_not_there_ends_all_with_78(tmp_path: Path) -> None:
    run = Run(tmp_path, Child("ghost", ("/nonexistent/program",), "nothing"))
    assert await run.run() == 78
    assert any("cannot start /nonexistent/program" in line for line in run.said)


async def test_children_stop_one_after_the_other_last_started_first(tmp_path: Path) -> None:
    run = Run(tmp_path, *(child(name, POLITE) for name in ("serve", "process", "connect")))
    task = asyncio.create_task(run.run())
    for name in ("serve", "process", "connect"):
        await run.until(name, "up")
    run.supervisor.stop()
    assert await task == 0
    assert [x["process"] for x in logged(run.log) if x["message"] == "stopping"] == ["connect", "process", "serve"]
    assert "stopping connect, process, serve" in run.said


async def test_a_child_that_will_not_stop_is_killed_and_the_others_still_have_their_time(tmp_path: Path) -> None:
    run = Run(tmp_path, child("polite", POLITE), child("stubborn", STUBBORN), stop_s=1.0)
    task = asyncio.create_task(run.run())
    await run.until("polite", "up")
    await run.until("stubborn", "up")
    began = time.monotonic()
    run.supervisor.stop()
    assert await task == 0
    assert time.monotonic() - began < 2.0
    assert "stubborn: did not stop in time, killed" in run.said
    assert logged(run.log)[-1] == {"process": "polite", "message": "stopping"}


async def test_asked_twice_it_does_not_wait(tmp_path: Path) -> None:
    run = Run(tmp_path, child("stubborn", STUBBORN))
    task = asyncio.create_task(run.run())
    await run.until("stubborn", "up")
    began = time.monotonic()
    run.supervisor.stop()
    await asyncio.sleep(0.05)
    run.supervisor.stop()
    await task
    assert time.monotonic() - began < 2.0


async def test_what_a_child_left_behind_is_ended_with_it(tmp_path: Path) -> None:
    run = Run(tmp_path, child("parent", "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"))
    assert await run.run() == 0
    left = int(logged(run.log)[0]["message"])
    async with asyncio.timeout(5):
        while alive(left):
            await asyncio.sleep(0.02)


async def test_the_next_child_starts_when_the_one_before_it_is_ready(tmp_path: Path) -> None:
    asked = []

    async def ready() -> bool:
        asked.append(run.starts("process"))
        return len(asked) == 3

    run = Run(tmp_path, child("serve", POLITE, ready=ready), child("process", "pass"))
    task = asyncio.create_task(run.run())
    while run.starts("process") == 0:
        await asyncio.sleep(0.02)
    run.supervisor.stop()
    await task
    assert asked == [0, 0, 0]
    assert run.said.index("serve: ready") < next(i for i, line in enumerate(run.said) if line.startswith("process: a test's child"))


async def test_a_child_that_never_becomes_ready_ends_all_with_1(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    run = Run(tmp_path, child("serve", POLITE, ready=never, ready_s=0.3), child("process", POLITE))
    assert await run.run() == 1
    assert run.starts("process") == 0
    assert any(line.startswith("serve: not ready after 0.3 s") for line in run.said)


async def test_a_child_that_serves_is_ready_when_its_address_answers(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    assert not await answers(address)()
    server = Child(
        "serve",
        (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)),
        "a server",
        ready=answers(address),
    )
    run = Run(tmp_path, server, child("process", "pass"))
    task = asyncio.create_task(run.run())
    while run.starts("process") == 0:
        await asyncio.sleep(0.02)
    assert "serve: ready" in run.said
    run.supervisor.stop()
    assert await task == 0


async def test_it_can_run_for_a_given_time(tmp_path: Path) -> None:
    run = Run(tmp_path, child("serve", POLITE))
    began = time.monotonic()
    assert await run.run(for_s=0.5) == 0
    assert 0.5 <= time.monotonic() - began < 3


async def test_every_line_is_json_with_the_child_s_name_even_a_traceback_and_one_without_end(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        child(
            "a",
            "print('x' * 200_000 + chr(10) + 'caf\\xe9'); print('{\"message\": \"m\", \"k\": 1}'); 1 / 0",
            env={"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},  # or the traceback overtakes what was printed before it
        ),
    )
    task = asyncio.create_task(run.run())
    await run.until("a", "ZeroDivisionError: division by zero")
    run.supervisor.stop()
    await task
    lines = logged(run.log)
    assert {x["process"] for x in lines} == {"a"}
    assert {"process": "a", "message": "m", "k": 1} in lines
    assert "café" in [x["message"] for x in lines if len(x["message"]) < 1000]
    assert max(len(x["message"]) for x in lines) <= 65_536


def test_a_child_may_not_hide_behind_another_s_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unique"):
        Run(tmp_path, child("a", "pass"), child("a", "pass"))


def test_bytes_that_are_no_text_are_kept_readable() -> None:
    from datetime import UTC, datetime

    record, _ = log_record("a", b"\xff\xfe", datetime(2026, 1, 1, tzinfo=UTC))
    assert json.loads(record) == {"process": "a", "time": "2026-01-01T00:00:00.000Z", "message": "\ufffd\ufffd"}


PROGRAM = """
import asyncio, sys
from pathlib import Path
from demo.supervise import Child, Supervisor
child = Child("child", (sys.executable, "-S", "-c", "import time; time.sleep(60)"), "sleeps")
sys.exit(asyncio.run(Supervisor([child, ], log_file=Path(sys.argv[1]), say=lambda line: print(line, flush=True)).run()))
"""


@pytest.fixture
def program(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-c", PROGRAM, str(tmp_path / "log.jsonl")), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_exits_0(program: subprocess.Popen[str], number: signal.Signals) -> None:
    assert program.stdout is not None
    pid = int(re.findall(r"process (\d+)", program.stdout.readline())[0])
    program.send_signal(number)
    said, _ = program.communicate(timeout=10)
    assert program.returncode == 0
    assert "stopped after" in said
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux's")
def test_children_end_when_their_supervisor_is_killed(program: subprocess.Popen[str]) -> None:
    assert program.stdout is not None
    pid = int(re.findall(r"process (\d+)", program.stdout.readline())[0])
    assert alive(pid)
    os.kill(program.pid, signal.SIGKILL)
    program.communicate(timeout=10)
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
