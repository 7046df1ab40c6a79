"""When situations end: said so, or named no more by the list that named them; and when their last record is deleted.

A list that leaves a situation out once may have been cut short by its sender: it has ended when two lists in a row, at least ``GRACE_MS`` after it was named last, leave it
out. All by log time.
"""

from __future__ import annotations

from typing import Any

from connectors.columns import Listing

#: A situation may be missing from a list for so long before it counts as ended, milliseconds.
GRACE_MS = 90_000
#: A situation's record is deleted so long after its end, or after it was named last if that is later, milliseconds.
KEPT_MS = 7 * 86_400_000


class Lists:
    """What each list of one raw partition named last, and when."""

    def __init__(self) -> None:
        self.named: dict[str, dict[str, int]] = {}  #: list -> situation -> ingest time of the list that named it last
        self.read: dict[str, int] = {}  #: list -> when it was last read whole
        self._pieces: dict[str, list[Any]] = {}  #: list -> [next piece, keys so far], while its pieces come in

    def read_one(self, listing: Listing) -> list[tuple[str, int]]:
        """Situations that have ended, and since when: the list before this one was the first without them."""
        name, keys = listing.name, list(listing.keys)
        if listing.pieces > 1:
            following, held = self._pieces.pop(name, [1, []]) if listing.piece > 1 else (1, [])
            if listing.piece != following:
                return []  # a piece was refused, or lost: this list tells of no end
            keys = [*held, *keys]
            if listing.piece < listing.pieces:
                self._pieces[name] = [following + 1, keys]
                return []
        known = self.named.setdefault(name, {})
        before = self.read.get(name)
        self.read[name] = listing.ingest_ms
        known |= dict.fromkeys(keys, listing.ingest_ms)
        if before is None:
            return []
        gone = [k for k, last in known.items() if last < before and listing.ingest_ms - last >= GRACE_MS]
        ended = [(k, before) for k in sorted(gone)]
        for k in gone:
            del known[k]
        return ended

    def export(self) -> list[Any]:
        return [self.named, self.read, self._pieces]

    def restore(self, data: list[Any]) -> None:
        named, read, pieces = data
        self.named = {name: dict(keys) for name, keys in named.items()}
        self.read = dict(read)
        self._pieces = {name: list(p) for name, p in pieces.items()}
