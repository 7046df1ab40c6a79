"""``/healthz``, ``/readyz`` and ``/metrics`` of a worker, from a thread of their own: they answer, red, also while the event loop hangs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streams.watchdog import Watchdog


class Monitor:
    """A small HTTP server on loopback unless told otherwise. ``with`` starts and stops it."""

    def __init__(self, watchdog: Watchdog, registry: CollectorRegistry, port: int, host: str = "127.0.0.1") -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  #: seconds a client may take for its request

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/healthz":
                    self._verdict(watchdog.trouble(watchdog.settings.stalled_s))
                elif path == "/readyz":
                    self._verdict(watchdog.ready())
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"/healthz, /readyz, /metrics\n")

            def _verdict(self, trouble: str | None) -> None:
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
