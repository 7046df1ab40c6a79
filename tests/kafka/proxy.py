"""A TCP proxy on loopback between clients and a broker, which can swallow everything or cut all connections."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Forwards to ``port`` on loopback. While ``swallowing``, connections stay open, and nothing passes: a pulled network cable."""

    def __init__(self, port: int = 0) -> None:
        self.target = port
        self.port = 0
        self.swallowing = False
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Every connection is closed."""
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for a, b in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.create_task(self._pipe(a, b))
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                while data := await reader.read(65536):
                    while self.swallowing:
                        await asyncio.sleep(0.05)
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()
