"""A small supervisor: starts child processes in order, starts one again that died, gathers their JSON logs in a file, stops all in reverse order.

``up`` and ``demo`` run every part of the system as its own process under it. Order the children so that those who listen come before those who speak:
they stop in reverse order, and what was spoken is still heard. A child ends with its supervisor, however that one ends (Linux: PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import aiohttp
import msgspec

from models.errors import EXIT_CONFIG, EXIT_FAILED

STOP_S = 15.0
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  #: a child that ran this long begins its back-off anew
MAX_LINE = 64 * 1024
LOG_BYTES, LOG_FILES = 20_000_000, 3  #: the log file is turned over, so that a disk never fills
_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running."""

    name: str  #: unique; stands before every line of its log
    argv: Sequence[str]
    doing: str  #: for people: "connectors: feeds into raw topics"
    env: Mapping[str, str] = field(default_factory=dict)  #: on top of this process's environment
    ready: Callable[[], Awaitable[bool]] | None = None  #: asked until True before the next child starts; None: at once
    ready_s: float = 30.0


@dataclass(slots=True)
class _State:
    child: Child
    process: asyncio.subprocess.Process | None = None
    last: str = ""  #: newest line of its log that tells something
    starts: int = 0


class Supervisor:
    """Runs children until told to stop, until all have ended, or until one says that its configuration is wrong."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        log_file: Path,
        say: Say,
        stop_s: float = STOP_S,
        back_off_s: Sequence[float] = BACK_OFF_S,
    ) -> None:
        """
        Args:
            children: in the order of their start.
            log_file: gets one JSON object a line, with the child's name in ``process``.
            say: gets status lines for people.
            stop_s: time for all of them to stop after SIGTERM; then SIGKILL.
            back_off_s: waits before the first, second, … new start; the last one repeats.

        Raises:
            ValueError: two children with one name.
        """
        if len({c.name for c in children}) < len(children):
            raise ValueError(f"children need unique names: {[c.name for c in children]}")
        self._states = [_State(c) for c in children]
        self._say, self._stop_s, self._back_off_s = say, stop_s, tuple(back_off_s)
        self._stop = asyncio.Event()
        self._code = 0
        self._hurry = asyncio.Event()
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log = RotatingFileHandler(log_file, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True)

    def stop(self) -> None:
        """Ask for the end; asked twice, everything is killed at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self, for_s: float | None = None) -> int:
        """Run until the end.

        Args:
            for_s: stop after so many seconds; None: run on.

        Returns:
            0, or the exit code of the child that ended everything: 78 for bad configuration, 1 for a child that never became ready.
        """
        async with _signals(self.stop), asyncio.TaskGroup() as tasks:
            keepers: list[asyncio.Task[None]] = []
            timer = tasks.create_task(self._stop_after(for_s)) if for_s is not None else None
            try:
                for state in self._states:
                    if self._stop.is_set():
                        break
                    keepers.append(tasks.create_task(self._keep(state), name=state.child.name))
                    await self._wait_ready(state, keepers[-1])
                if keepers:
                    left = tasks.create_task(self._stop_after_all(keepers))
                    await self._stop.wait()
                    left.cancel()
            finally:
                self._stop.set()
                if timer is not None:
                    timer.cancel()
                await self._stop_all()
        self._log.close()
        return self._code

    async def _stop_after_all(self, keepers: list[asyncio.Task[None]]) -> None:
        await asyncio.wait(keepers)
        self._stop.set()

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._say(f"{seconds:g} s are over")
        self._stop.set()

    async def _keep(self, state: _State) -> None:
        """Start a child, and again whenever it fails, until the end."""
        child, failures = state.child, 0
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._run_once(state)
            if self._stop.is_set():
                break
            if code == 0:
                self._say(f"{child.name}: finished")
                break
            if code == EXIT_CONFIG:
                self._say(f"{child.name}: bad configuration: {state.last or 'see its log'}")
                self._end(EXIT_CONFIG)
                break
            failures = 1 if time.monotonic() - began >= STEADY_S else failures + 1
            wait = self._back_off_s[min(failures, len(self._back_off_s)) - 1]
            self._say(f"{child.name}: died with {_why(code)}{': ' + state.last if state.last else ''}; starts again in {wait:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)

    async def _run_once(self, state: _State) -> int:
        child = state.child
        # A pipe of our own: asyncio's would keep wait() waiting for grandchildren that still hold its other end.
        receive, send = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.argv,
                env={**os.environ, **child.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=send,
                stderr=send,
                start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor alone, which then stops all in order
                preexec_fn=_die_with_parent(),
            )
        except OSError as e:
            os.close(receive)
            state.last = f"cannot start {child.argv[0]}: {e.strerror}"
            return EXIT_CONFIG
        finally:
            os.close(send)
        if self._stop.is_set():  # it came between the last look and the start
            _send(process.pid, signal.SIGKILL)
        state.process, state.last, state.starts = process, "", state.starts + 1
        self._say(f"{child.name}: {child.doing} (process {process.pid}{', again' if state.starts > 1 else ''})")
        reading = asyncio.create_task(self._collect(state, receive))
        code = await process.wait()
        _send(process.pid, signal.SIGKILL)  # what the child itself started and left behind
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, 1.0)
        state.process = None
        return code

    async def _wait_ready(self, state: _State, keeper: asyncio.Task[None]) -> None:
        child = state.child
        if child.ready is None:
            return
        deadline = time.monotonic() + child.ready_s
        while not self._stop.is_set() and not keeper.done():
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(child.ready(), child.ready_s):
                    self._say(f"{child.name}: ready")
                    return
            if time.monotonic() >= deadline:
                self._say(f"{child.name}: not ready after {child.ready_s:g} s{': ' + state.last if state.last else ''}")
                self._end(EXIT_FAILED)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.1)

    def _end(self, code: int) -> None:
        self._code = self._code or code
        self._stop.set()

    async def _stop_all(self) -> None:
        """SIGTERM to one after the other, last started first; each has its share of the time that is left."""
        running = [s for s in reversed(self._states) if s.process is not None]
        if running:
            self._say(f"stopping {', '.join(s.child.name for s in running)}")
        began = time.monotonic()
        for k, state in enumerate(running, 1):
            process = state.process
            if process is None:
                continue
            _send(process.pid, signal.SIGTERM)
            left = began + self._stop_s * k / len(running) - time.monotonic()
            if not await self._gone(process, left):
                self._say(f"{state.child.name}: did not stop in time, killed")
                _send(process.pid, signal.SIGKILL)
                await process.wait()
        if running:
            self._say(f"stopped after {time.monotonic() - began:.1f} s")

    async def _gone(self, process: asyncio.subprocess.Process, timeout_s: float) -> bool:
        gone, hurry = asyncio.create_task(process.wait()), asyncio.create_task(self._hurry.wait())
        await asyncio.wait((gone, hurry), timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if gone.done():
            return True
        gone.cancel()
        return False

    async def _collect(self, state: _State, receive: int) -> None:
        """Lines of a child into the log file; an overlong one is cut."""
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(receive, "rb")
        )
        try:
            await self._read_lines(state, stream)
        finally:
            transport.close()

    async def _read_lines(self, state: _State, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(MAX_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._write(state, line)
            if len(rest) > MAX_LINE:
                self._write(state, rest)
                rest = b""
        self._write(state, rest)

    def _write(self, state: _State, line: bytes) -> None:
        line = line[:MAX_LINE].strip()
        if not line:
            return
        record, told = log_record(state.child.name, line, datetime.now(UTC))
        state.last = told or state.last
        self._log.emit(logging.LogRecord(state.child.name, logging.INFO, "", 0, record, None, None))


def log_record(process: str, line: bytes, now: datetime) -> tuple[str, str]:
    """One line of a child as JSON with the child's name first, and what it tells people (shortened).

    A line that is no JSON object (a traceback, a library's print) becomes the ``message`` of one.

    >>> log_record("a", b'{"message": "up"}', datetime(2026, 1, 1, tzinfo=UTC))
    ('{"process":"a","message":"up"}', 'up')
    """
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        text = line.decode("utf-8", "replace")
        fields = {"time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "message": text}
    told = fields.get("message") or fields.get("msg") or fields.get("event") or ""
    return msgspec.json.encode({"process": process, **fields}).decode(), str(told)[:200]


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """For ``Child.ready``: does this address answer 200?"""

    async def ask() -> bool:
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as http, http.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ask


def _send(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _why(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does between fork and exec, so that the kernel ends it when its parent ends. Linux only."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def set_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os._exit(EXIT_FAILED)

    return set_signal


@asynccontextmanager
async def _signals(stop: Callable[[], None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
