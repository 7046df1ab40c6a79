"""A TCP proxy on loopback between clients and a broker, which can swallow everything, some kinds of requests or answers, or cut all connections."""

from __future__ import annotations

import asyncio
import contextlib

#: Kinds of requests, https://kafka.apache.org/protocol#protocol_api_keys
PRODUCE, OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 0, 8, 10, 11, 12, 13, 14
#: What only the group's coordinator answers.
OF_THE_COORDINATOR = frozenset({OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP})


class Proxy:
    """Forwards to ``port`` on loopback. While ``swallowing``, connections stay open, and nothing passes: a pulled network cable.

    A request of a kind in ``deaf`` waits, and all that comes after it on its connection, as they do behind a broker that is busy with it for ever. Answers to the next requests of the kind in ``mute`` never reach the client: the broker has done what it
    was asked, the connection breaks, and nobody knows.
    """

    def __init__(self, port: int = 0) -> None:
        self.target = port
        self.port = 0
        self.swallowing = False
        self.deaf: frozenset[int] = frozenset()
        self.mute: set[int] = set()
        self.muted = 0  #: answers that were kept back
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
        asked: dict[bytes, int] = {}  # kind of a request by its correlation id
        for a, b, up in ((reader, up_writer, True), (up_reader, writer, False)):
            task = asyncio.create_task(self._pipe(a, b, asked, up=up))
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[bytes, int], *, up: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                while True:
                    size = await reader.readexactly(4)
                    frame = await reader.readexactly(int.from_bytes(size, "big"))
                    while self.swallowing:
                        await asyncio.sleep(0.05)
                    if up:
                        kind = int.from_bytes(frame[:2], "big")
                        asked[frame[4:8]] = kind
                        while kind in self.deaf:
                            await asyncio.sleep(0.05)
                    elif (kind := asked.pop(frame[:4], -1)) in self.mute:
                        self.mute.discard(kind)
                        self.muted += 1
                        return
                    writer.write(size + frame)
                    await writer.drain()
            finally:
                writer.close()
