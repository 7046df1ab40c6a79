"""Explanations: they give what was published, name every source, and say why one was left out."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.cities import City
from models import explain as explaining
from models.explain import WORDS, Evidence, explain
from models.profile import BINS, DAY_MS, Profile
from streams import partial as wire
from streams.fuse import Fuser, FuseSettings
from tests.streams import kit
from tests.streams.test_fuse import NEVER, partials, town

WINDOW = kit.T0 // 60_000 + 2


def run(log: list[wire.Partial], city: City | None = None) -> tuple[list[dict[str, Any]], list[Evidence]]:
    """Finals and evidence."""
    fuser = Fuser(city or kit.city(), kit.network(), FuseSettings(provisional_ms=NEVER, evidence=True))
    states, heard = [], []
    for k, p in enumerate(log):
        out = fuser.feed(p, k)
        states += [json.loads(o.value) for o in out.records.get("segment-state", [])]
        heard += [explaining.decode(o.value) for o in out.records.get("evidence", [])]
    return states, heard


@pytest.fixture(scope="module")
def told() -> tuple[list[dict[str, Any]], list[Evidence]]:
    return run(partials({"hfp": town()}))


def test_an_explanation_gives_what_was_published(told: tuple[list[dict[str, Any]], list[Evidence]]) -> None:
    states, heard = told
    checked = 0
    for s in states:
        window = heard[0].window + round((json_ms(s["window_start"]) - heard[0].window * 60_000) / 60_000)
        x = explain(s["segment_id"], window, heard)
        assert x is not None
        assert (x.window_start, x.said, x.origin, x.confidence) == (s["window_start"], s["window_start"], s["origin"], s["confidence"])
        if "speed_kmh" in s:
            assert x.speed_kmh == pytest.approx(s["speed_kmh"], rel=1e-3, abs=0.006)
            mix = s["source_mix"]
            assert x.weights.probe == pytest.approx(mix.get("probe", 0.0), abs=0.002)
            assert x.weights.memory == pytest.approx(mix.get("memory", 0.0), abs=0.002)
            assert x.weights.street + x.weights.prior == pytest.approx(mix.get("network", 0.0), abs=0.01)
            assert sum(v.weight for v in x.sources if v.kind == "probe") == pytest.approx(x.weights.probe, abs=0.01)
            assert sum(v.used for v in x.sources) <= s["vehicle_count"] == sum(v.used for v in x.sources)
            checked += 1
    assert checked > 50


def json_ms(text: str) -> int:
    from models.clock import parse_ms

    return parse_ms(text)


def test_between_two_records_the_one_that_stands_is_explained(told: tuple[list[dict[str, Any]], list[Evidence]]) -> None:
    states, heard = told
    by: dict[str, set[str]] = {}
    for s in states:
        by.setdefault(s["segment_id"], set()).add(s["window_start"])
    windows = sorted({s["window_start"] for s in states})
    gaps = [(i, w) for i, own in by.items() for w in windows if w not in own and windows[0] in own]
    assert gaps
    for segment, start in gaps:
        x = explain(segment, json_ms(start) // 60_000, heard)
        assert x is not None
        assert x.said == max(w for w in by[segment] if w < start)
        assert "before stands" in x.text[-1]


def test_what_nothing_was_said_of_has_no_explanation(told: tuple[list[dict[str, Any]], list[Evidence]]) -> None:
    _, heard = told
    assert explain("no_such_segment", WINDOW, heard) is None
    assert explain(heard[0].segments[0], heard[0].window - 1, heard) is None
    assert explain(heard[0].segments[0], heard[-1].window + explaining.STANDS + 1, heard) is None


def test_a_vehicle_that_two_feeds_tell_of_counts_once_and_the_other_is_said_to_be_left_out() -> None:
    city, log = kit.city(), partials({"hfp": town(180)})
    other = next((f.name for f in city.feeds if f.secondary_to == "hfp"), None)
    assert other is not None, "the kit's city has a feed that comes second to hfp"
    told_by_two = [q for p in log for q in ((p, msgspec.structs.replace(p, feed=other)) if p.feed == "hfp" else (p,))]
    _, heard = run(told_by_two, city)
    found = [explain(i, e.window, heard) for e in heard for i in e.segments]
    left = [s for x in found if x is not None for s in x.sources if not s.used and s.feed == other]
    assert left
    assert {s.why for s in left} == {"another feed that ranks higher told of this vehicle"}
    assert all(s.weight == 0.0 for s in left)


def test_boarding_is_told_and_weighs_nothing() -> None:
    e = Evidence(
        1, "town", 10, 0, 1, "n1", False, ("a",), np.array([[20, 15, 25, 0.7, 4, 25, 0.6, 0, 0, 0.4, 1, 1.2]], "<f4").tobytes(),
        np.full((1, 8), -1, "<i4").tobytes(), np.zeros((1, 8), "<f4").tobytes(), ("0018/00001", "0018/00002"), ("hfp",),
        np.array([
            [0, 0, 0, 1, 100_000, 20_000, 40_000, 9_000, 15_000, 0, 660_000], [0, 1, 0, 1, 30_000, 5_000, 30_000, 5_000, 20_000, 0, 660_000],
        ], "<i8").tobytes(), (explaining.Reading(0, "tms/1", "1", 660_000, 0.0, None),),
    )  # fmt: skip
    x = explain("a", 10, [explaining.decode(explaining.encode(e))])
    assert x is not None
    boarded, only_boarded, site = x.sources
    assert (boarded.used, boarded.distance_m, boarded.time_s, boarded.dwell_s, boarded.weight) == (True, 60.0, 11.0, 15.0, 0.6)
    assert (only_boarded.used, only_boarded.weight) == (False, 0.0)
    assert (site.kind, site.used, site.weight) == ("loop", False, 0.0)
    assert any("0018/00002" in t and "tms/1" in t for t in x.text if t.startswith("Left out"))


def test_what_is_no_evidence_is_refused() -> None:
    for bad in (b"", b"{}", b"\x92\x01\x02"):
        with pytest.raises(ValueError, match="evidence"):
            explaining.decode(bad)


def test_what_is_usual_is_told_where_a_profile_knows_it_and_older_evidence_is_still_read() -> None:
    ids = kit.network().segments.segment_id
    usual = Profile(
        "helsinki", "Europe/Helsinki", tuple(sorted(ids)), np.full((len(ids), BINS), np.log(2.0), np.float16), np.full(len(ids), 0.3, np.float16),
        np.full(len(ids), np.nan), ("2026-03-09",), kit.T0 - DAY_MS, kit.T0 + DAY_MS,
    )  # fmt: skip
    fuser = Fuser(kit.city(), kit.network(), FuseSettings(provisional_ms=NEVER, evidence=True), usual)
    log = partials({"hfp": town()})
    heard = [explaining.decode(o.value) for k, p in enumerate(log) for o in fuser.feed(p, k).records.get("evidence", [])]
    x = explain(ids[0], heard[0].window, heard)
    assert x is not None
    assert x.usual_ratio == pytest.approx(2.0, rel=2e-3)
    assert any("usual here at this time of the week" in line for line in x.text)
    cut = np.frombuffer(heard[0].values, "<f4").reshape(-1, len(explaining.VALUES))[:, :-2]
    older = msgspec.structs.replace(heard[0], schema=1, values=np.ascontiguousarray(cut).tobytes())
    y = explain(ids[0], older.window, [explaining.decode(explaining.encode(older))])
    assert y is not None
    assert (y.speed_kmh, y.usual_ratio) == (x.speed_kmh, None)


def test_every_language_says_the_same_things() -> None:
    for name, english in WORDS["en"]._asdict().items():
        for language in ("fi", "sv"):
            words = WORDS[language]._asdict()[name]  # of tuples: no more and no fewer
            assert isinstance(english, str) or len(words) == len(english)
            assert words, (language, name)
            if isinstance(english, str):
                assert set(re.findall(r"{(\w+)}", words)) == set(re.findall(r"{(\w+)}", english)), (language, name)


def test_a_closed_segment_is_said_to_be_closed_in_every_language_and_in_older_evidence_is_not() -> None:
    log = partials({"hfp": town()})
    main1 = list(kit.network().segments.segment_id).index("main1_f")
    closing = wire.NoticeRow(kit.T0 - 60_000, kit.T0 - 60_000, kit.T0 + 86_400_000, kit.T0 - 60_000, "messages/1", (main1,), True)
    fuser = Fuser(kit.city(), kit.network(), FuseSettings(provisional_ms=NEVER, evidence=True))
    fuser.incidents.hear([closing])
    heard = [explaining.decode(o.value) for k, p in enumerate(log) for o in fuser.feed(p, k).records.get("evidence", [])]
    for language, word in (("en", "Closed"), ("fi", "Suljettu"), ("sv", "Avstängt")):
        x = explain("main1_f", WINDOW, heard, language)  # type: ignore[arg-type]
        assert x is not None
        assert (x.closed, x.speed_kmh, x.origin) == (True, None, "none")
        assert x.text[0].startswith(word)
        assert not any("%" in sentence for sentence in x.text)
    other = explain("main2_f", WINDOW, heard)
    assert other is not None
    assert other.closed is None
    assert not other.text[0].startswith("Closed")
    old = [
        msgspec.structs.replace(e, schema=2, values=np.frombuffer(e.values, "<f4").reshape(-1, len(explaining.VALUES))[:, :-1].tobytes())
        for e in heard
    ]
    before = explain("main1_f", WINDOW, [explaining.decode(explaining.encode(e)) for e in old])
    assert before is not None
    assert before.closed is None


def test_less_weight_of_a_sick_feed_is_said_in_every_language_and_of_a_well_one_is_not(
    told: tuple[list[dict[str, Any]], list[Evidence]],
) -> None:
    """The share that is said is the one that the value was made with: half of it where a feed is refused in part."""
    _, well = told
    log = partials({"hfp": town()})
    refused = [msgspec.structs.replace(p, health=tuple(msgspec.structs.replace(h, rejects=1_000_000) for h in p.health)) for p in log]
    _, sick = run(refused)
    e, row = next((e, int(r)) for e in sick if e.worth and min(e.worth) < 1 for r in np.frombuffer(e.cells, "<i8")[:: len(explaining.CELL)])
    for language, sentence in (("en", "Less weight"), ("fi", "Pienempi paino"), ("sv", "Mindre vikt")):
        x, y = (explain(e.segments[row], e.window, heard, language) for heard in (sick, well))  # type: ignore[arg-type]
        assert x is not None
        assert y is not None
        assert {s.health for s in x.sources if s.used} == {0.5}
        assert {s.health for s in y.sources} == {None}
        assert x.weights.probe < y.weights.probe
        assert sum(f"{s.vehicle_id} (50 %)" in t for t in x.text if t.startswith(sentence) for s in x.sources) == len(x.sources)
        assert not any(t.startswith(sentence) for t in y.text)


def test_sites_share_the_weight_by_the_health_of_their_feeds_and_older_evidence_has_none() -> None:
    site = explaining.Reading(0, "tms/1", "1", 660_000, 600.0, 50.0)
    e = Evidence(
        2, "town", 10, 0, 1, "n1", False, ("a",), np.array([[20, 15, 25, 0.7, 4, 25, 0, 0.6, 0, 0.4, 1, 1.2, np.nan]], "<f4").tobytes(),
        np.full((1, 8), -1, "<i4").tobytes(), np.zeros((1, 8), "<f4").tobytes(), (), (), b"",
        (site, msgspec.structs.replace(site, site_id="tms/2", worth=0.5)),
    )  # fmt: skip
    x = explain("a", 10, [e])
    assert x is not None
    assert [(s.weight, s.health) for s in x.sources] == [(0.4, None), (0.2, 0.5)]
    assert "Less weight, since the feed is late, silent or refused in part: tms/2 (50 %)." in x.text
    *fields, _, _, _ = msgspec.msgpack.decode(explaining.encode(e))
    older = explaining.decode(msgspec.msgpack.encode([*fields, [list(r)[:-1] for r in msgspec.to_builtins(e.readings)]]))
    assert [r.worth for r in older.readings] == [1.0, 1.0]
    assert older.worth == ()
