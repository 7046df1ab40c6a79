"""A progress bar of a replay, on terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import click

from connectors.envelope import Envelope
from models.clock import rfc3339

Logged = tuple[str, int, Envelope]
#: Envelopes between two looks at the clock.
_EVERY = 200


class Bar:
    """Envelopes as they are, and on a terminal how far they have come, with the log time. Use as a context manager where a loop may end early.

    Args:
        envelopes: of a log.
        length: of all of it; ``messages``: counted so, else in bytes.
    """

    def __init__(self, envelopes: Iterable[Logged], length: int, messages: bool) -> None:
        self.envelopes, self.length, self.messages = envelopes, length, messages
        self._time = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if sys.stderr.isatty():
            click.echo(err=True)

    def __iter__(self) -> Iterator[Logged]:
        if not sys.stderr.isatty():
            yield from self.envelopes
            return
        shown: Any = click.progressbar(length=self.length, file=sys.stderr, item_show_func=lambda _: self._time)
        with shown as bar:
            done, seen = 0, 0
            for n, logged in enumerate(self.envelopes):
                done += 1 if self.messages else sum(len(i.body) for i in logged[2].items)
                yield logged
                if n % _EVERY == 0:
                    self._time = rfc3339(logged[2].ingest_ms)[:19]
                    bar.update(min(done, self.length) - seen)
                    seen = min(done, self.length)
            bar.update(self.length - seen)
