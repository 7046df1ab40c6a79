"""Whatever arrives, a parser answers with rows and refusals, never with an exception: bytes flipped, cut, doubled, types swapped, nested deep, numbers huge.

The short form; ``python benchmarks/fuzz.py`` is the long one, a million mutations a family.
"""

from __future__ import annotations

import random
import time
import warnings

import pytest

from benchmarks.fuzzing import AT, BOMBS, INCLUDE, sound, targets, tried
from connectors import xml
from connectors.cities import Family
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import PARSERS, parser
from connectors.reading import Refused

ROUNDS = 300
TARGETS = targets()


def test_every_family_is_mutated() -> None:
    assert set(TARGETS) == set(PARSERS)


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_a_mutated_message_is_rows_and_refusals_and_never_an_exception(family: str) -> None:
    rng, slowest = random.Random(family), 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(ROUNDS):
            begun = time.process_time()
            tried(TARGETS[family], rng)
            slowest = max(slowest, time.process_time() - begun)
    assert slowest < 2.0


@pytest.mark.parametrize("family", sorted(PARSERS))
@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"\x00" * 100, b"<html>", b"null", b"[]", b"{}", b"0", b'""', b"[" * 1_000_000, b'{"a":' * 200_000, b"\xff\xfe{}", bytes(range(256)) * 40, b"1" * 1_000_000],
    ids=lambda b: repr(b[:12]),
)  # fmt: skip
def test_no_family_stumbles_over_what_is_no_document_at_all(family: Family, body: bytes) -> None:
    city = TARGETS[family].city
    feed = city.feed(TARGETS[family].feed)
    item = Item(AT, "https://example.org/x", body)
    for kind in ("snapshot", "messages"):
        sound(parser(feed, city).parse(Envelope(SCHEMA, city.name, feed.name, family, kind, AT, (item,))))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["siri", "datex2"])
@pytest.mark.parametrize("bomb", [*BOMBS, b"<?xml version='1.0'?>" + BOMBS[0]], ids=range(5))
def test_document_types_and_entities_are_refused_before_anything_is_opened(
    family: Family, bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither file nor network is touched: opening either would fail the test."""

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("a file or an address was opened")

    target = TARGETS[family]
    good = next(s.body for s in target.samples if s.body.lstrip().startswith(b"<"))
    body = good[good.index(b"?>") + 2 :] if good.lstrip().startswith(b"<?xml") else good
    monkeypatch.setattr("builtins.open", touched)
    monkeypatch.setattr("socket.socket.connect", touched)
    item = Item(AT, "https://example.org/x", bomb + body)
    parsed = parser(target.city.feed(family), target.city).parse(
        Envelope(SCHEMA, target.city.name, family, family, "snapshot", AT, (item,))
    )
    assert [r.reason for r in parsed.rejects] == ["doctype"]
    assert parsed.events == 1


def test_an_included_file_is_not_read_and_a_huge_text_is_refused_or_cut() -> None:
    root = xml.parse(b"<a>" + INCLUDE + b"</a>")
    assert "".join(root.itertext()) == ""
    with pytest.raises(Refused, match=r"bad_xml|over_limit|body|elements"):
        xml.parse(b"<a>" + b"x" * 12_000_000 + b"</a>")
