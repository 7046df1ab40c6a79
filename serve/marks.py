"""Places in the log: how far somebody has read, told as the id of an event and read back from it.

An id names the last offset of each partition, e.g. ``f0:17,s0:90210,v0:4711``: a code of the topic's product, the partition, the offset. -1: nothing yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from models.topics import PRODUCTS

#: (product, partition)
Place = tuple[str, int]

#: Short names of products in ids; a product that is missing here goes by its name. They are part of ids that clients hold: never change one.
CODES = {
    "vehicle-position": "v",
    "segment-state": "s",
    "feed-health": "f",
    "segment": "g",
    "sensor-observation": "o",
    "stop-passage": "p",
    "traffic-signal": "t",
    "road-weather": "w",
    "situation": "i",
    "shared-vehicle-station": "b",
    "parking": "k",
    "emission-segment": "e",
    "emission-area": "ea",
    "emission-vehicle": "ev",
    "line-fluency": "l",
    "area-state": "a",
    "grid-factor": "gf",
    "city-day": "cd",
}
_PRODUCT = {code: product for product, code in CODES.items()}
_PART = re.compile(r"([a-z][a-z-]{0,39})([0-9]{1,5}):(-1|[0-9]{1,18})", re.ASCII)
#: No id of ours is longer, characters.
MAX_ID = 2_000


class Marks(dict[Place, int]):
    """Last offset by place. A place that is missing is new: nothing of it was read."""

    def text(self) -> str:
        """The id.

        >>> Marks({("vehicle-position", 0): 7, ("segment-state", 0): 3}).text()
        's0:3,v0:7'
        """
        return ",".join(sorted([f"{CODES.get(product, product)}{partition}:{offset}" for (product, partition), offset in self.items()]))

    def of(self, products: Iterable[str]) -> Marks:
        """Those of some products."""
        wanted = frozenset(products)
        return Marks({place: offset for place, offset in self.items() if place[0] in wanted})

    def raise_to(self, other: Mapping[Place, int]) -> None:
        """Move each place forward to where ``other`` is, if that is farther."""
        for place, offset in other.items():
            if offset > self.get(place, -1):
                self[place] = offset


def parse(text: str) -> Marks:
    """The marks of an id.

    Raises:
        ValueError: it is none of ours.

    >>> parse("s0:3,v0:7") == {("segment-state", 0): 3, ("vehicle-position", 0): 7}
    True
    """
    if len(text) > MAX_ID:
        raise ValueError("too long for an id of this stream")
    out = Marks()
    for part in text.split(",") if text else []:
        found = _PART.fullmatch(part)
        product = _PRODUCT.get(found[1], found[1]) if found else None
        if found is None or product not in PRODUCTS or (product, int(found[2])) in out:
            raise ValueError(f"{part[:60]!r} is no place in this stream")
        out[product, int(found[2])] = int(found[3])
    return out
