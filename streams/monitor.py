"""``/healthz``, ``/readyz`` and ``/metrics`` of a process, from a thread of their own: they answer, red, also while the event loop hangs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Watched(Protocol):
    """What can say how it is."""

    def alive(self) -> str | None: ...  # why it should be ended; None when all is well
    def ready(self) -> str | None: ...  # why it should get no work; None when it may


class Pulse:
    """Whether an event loop runs: for processes whose only way to fail is to hang, since everything else ends them."""

    LIMIT_S = 30.0

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.now_s, self.beat_s = now_s, now_s()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beat_s = self.now_s()
            await asyncio.sleep(1)

    def alive(self) -> str | None:
        silent_s = self.now_s() - self.beat_s
        return f"the event loop has not run for {silent_s:.0f} s" if silent_s > self.LIMIT_S else None

    ready = alive


class Monitor:
    """A small HTTP server on loopback unless told otherwise. ``with`` starts and stops it.

    Args:
        watched: all of them must be well; the first that is not says why.
        registry: the metrics.
        port: 0 for any.
        host: address to listen on.
    """

    def __init__(self, watched: Sequence[Watched], registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  #: seconds a client may take for its request

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/healthz":
                    self._verdict(w.alive() for w in watched)
                elif path == "/readyz":
                    self._verdict(w.ready() for w in watched)
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"/healthz, /readyz, /metrics\n")

            def _verdict(self, troubles: Iterable[str | None]) -> None:
                trouble = next((t for t in troubles if t is not None), None)
                body = json.dumps({"status": "ok"} if trouble is None else {"status": "failing", "reason": trouble})
                self._answer(200 if trouble is None else 503, "application/json", body.encode() + b"\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes ask every few seconds: no line for each."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Monitor:
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
