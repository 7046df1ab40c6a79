"""One archiver a city in an object store: a claim, an object that is written anew as long as its archiver lives.

pyarrow has no conditional put. So an archiver writes its claim first and lists the claims then: where listings are strongly consistent (S3 since 2020), of two that begin at once at least one
sees the other, and who sees another steps back. How old a claim is, is told by the store's own times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from pyarrow import fs

from models.errors import ConfigError
from streams.archive_store import Store

log = logging.getLogger("tilannekuva.archive")
#: A claim that was not renewed for so long is a dead archiver's, seconds. More: a longer wait after a kill; less: a slow store ends an archiver.
LEASE_S = 30.0


class Lease:
    """The right to write a city's rows.

    Args:
        clock_s: how old the own claim is, seconds.
    """

    def __init__(self, store: Store, city: str, *, lease_s: float = LEASE_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.store, self.city, self.lease_s, self.clock_s = store, city, lease_s, clock_s
        self.name, self.renewed_s = "", clock_s()

    def claim(self) -> dict[str, datetime]:
        """Write a new claim. Returns those of others that are alive, by name; where there is none the city is ours, and what dead ones left is deleted."""
        self.name = f"_lock-{self.city}.{uuid.uuid4().hex}"
        self._write()
        claims = self._claims()
        others = {n: at for n, at in claims.items() if n != self.name}
        alive = {n: at for n, at in others.items() if (claims[self.name] - at).total_seconds() <= self.lease_s}
        for name in [self.name] if alive else others:
            self.store.delete(name)
        return alive

    def renew(self) -> None:
        """
        Raises:
            TimeoutError: it is another's by now.
            OSError: the store does not answer; it is ours until ``check`` says otherwise.
        """
        if self.name not in self._claims():
            self.renewed_s = float("-inf")
        self.check()
        self._write()

    def check(self) -> None:
        """
        Raises:
            TimeoutError: not renewed in time, so that another may be at work by now.
        """
        if self.clock_s() - self.renewed_s > 0.8 * self.lease_s:
            raise TimeoutError(
                f"the claim on {self.city} in the archive was not renewed in {self.lease_s:.0f} s; another archiver may have it"
            )

    def _write(self) -> None:
        begun_s = self.clock_s()
        with self.store.fs.open_output_stream(self.store.at(self.name)) as stream:
            stream.write(b"an archiver is at work\n")
        self.renewed_s = begun_s

    def _claims(self) -> dict[str, datetime]:
        found = self.store.fs.get_file_info(fs.FileSelector(self.store.at(""), allow_not_found=True))
        return {i.base_name: i.mtime for i in found if i.type == fs.FileType.File and i.base_name.startswith(f"_lock-{self.city}.")}

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Ours as long as the block lasts. A claim that nobody renews is waited for.

        Raises:
            ConfigError: another archiver is at work.
        """
        first: dict[str, datetime] = {}
        until_s = self.clock_s() + 3 * self.lease_s
        while alive := await asyncio.to_thread(self.claim):
            if any(at > first.setdefault(n, at) for n, at in alive.items()) or self.clock_s() > until_s:
                raise ConfigError("archive", "folder", self.store.root, f"no other archiver of {self.city} at work in it")
            await asyncio.sleep(self.lease_s / 30 * (1 + int(self.name[-2:], 16) / 256))  # two that met do not meet again
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.store.delete, self.name)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 6)
            try:
                await asyncio.to_thread(self.renew)
            except TimeoutError:
                return  # the next write is refused
            except OSError as e:
                log.warning("the claim on %s could not be renewed: %s", self.city, e)
