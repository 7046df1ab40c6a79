"""Explanations over REST: from the evidence of the log, and what is answered when there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.clock import rfc3339
from models.explain import AHEAD, SCHEMA, VALUES, Evidence, encode
from tests.serve.conftest import NOW

MINUTE = NOW // 60_000
PATH = "/api/v1/cities/town/segments/w0_1_2_f/explain"


def evidence(window: int, part: int = 0, parts: int = 1, segment: str = "w0_1_2_f") -> bytes:
    values = np.zeros((1, len(VALUES)), "<f4")
    values[0, VALUES.index("usual_ratio")] = np.nan
    values[0, :6] = 21.5, 15.0, 28.0, 0.8, 2, 30.0
    values[0, VALUES.index("prior")] = values[0, VALUES.index("ahead_ratio")] = 1.0
    none = np.full((1, AHEAD), -1, "<i4").tobytes(), np.zeros((1, AHEAD), "<f4").tobytes()
    return encode(Evidence(SCHEMA, "town", window, part, parts, "n1", False, (segment,), values.tobytes(), *none, (), ("hfp",), b"", ()))


class FakeLog:
    def __init__(self, values: list[bytes], error: Exception | None = None) -> None:
        self.values, self.error = values, error
        self.asked: list[tuple[int, int]] = []

    async def read(self, city: str, first: int, last: int) -> list[bytes]:
        assert city == "town"
        self.asked.append((first, last))
        if self.error is not None:
            raise self.error
        return self.values


async def test_a_segment_is_explained_in_the_newest_final_minute_and_in_one_asked_for(fed: Any, start: Any) -> None:
    log = FakeLog([evidence(MINUTE - 2), evidence(MINUTE - 1, 0, 2)])
    client = await start(evidence=log)
    newest = await (await client.get(PATH)).json()
    assert (newest["window_start"], newest["said"]) == (rfc3339((MINUTE - 2) * 60_000),) * 2
    assert (newest["speed_kmh"], newest["origin"], newest["weights"]["prior"]) == (21.5, "inferred", 1.0)
    asked = await (await client.get(PATH, params={"time": rfc3339((MINUTE - 1) * 60_000)})).json()
    assert (asked["window_start"], asked["said"]) == (rfc3339((MINUTE - 1) * 60_000), rfc3339((MINUTE - 2) * 60_000))
    assert asked["text"]


async def test_minutes_that_were_read_are_not_read_again(fed: Any, start: Any) -> None:
    log = FakeLog([evidence(w) for w in range(MINUTE - 20, MINUTE - 9)])
    client = await start(evidence=log)
    for _ in range(3):
        assert (await client.get(PATH, params={"time": rfc3339((MINUTE - 10) * 60_000)})).status == 200
    assert log.asked == [(MINUTE - 14, MINUTE - 10)]


async def test_what_cannot_be_explained_says_why(fed: Any, start: Any) -> None:
    empty = await start(evidence=FakeLog([]))
    assert (await empty.get(PATH)).status == 404
    assert (await empty.get(PATH, params={"time": "yesterday"})).status == 400
    assert (await empty.get(PATH, params={"when": "now"})).status == 400
    assert (await empty.get("/api/v1/cities/town/segments/nowhere/explain")).status == 404
    assert (await (await start(evidence=FakeLog([], TimeoutError()))).get(PATH)).status == 503
    assert (await (await start()).get(PATH)).status == 503
