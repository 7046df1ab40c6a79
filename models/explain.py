"""Why a segment has its value: what each source said in a minute, with which weight, and what was left out and why.

The fuse step writes the evidence of each final minute as it was used (``streams/explain.py``) onto the internal topic ``evidence.<city>``; ``explain`` turns that of one
segment into an answer. It is pure and the only one: the command line and the gateway both call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.clock import rfc3339
from models.fusion import ALGORITHM, ORIGINS
from models.records import Origin, Utc

SCHEMA = 4
WINDOW_MS = 60_000
#: A segment's record stands until the next one, which comes within so many windows (``FuseSettings.heartbeat_windows``).
STANDS = 5
#: Neighbours straight ahead that are named.
AHEAD = 8
#: Other places of fixes that are named.
MOST_CANDIDATES = 8
#: Of each row: the estimate; shares of the value; the pace ratio of the streets ahead and of the street itself (time taken over time expected), and the one that is usual,
#: NaN where no profile tells it; whether a message closes it (1).
VALUES = (
    "speed_kmh", "p20_kmh", "p80_kmh", "confidence", "origin", "expected_kmh", "probe", "loop", "memory", "prior", "ahead_ratio", "pace_ratio",
    "usual_ratio", "closed",
)  # fmt: skip
#: Columns of the schemas that can be read: 1 had no usual ratio, 2 did not say what was closed, 3 not where fixes nearly lay.
_WIDTH = {1: len(VALUES) - 2, 2: len(VALUES) - 1, 3: len(VALUES), SCHEMA: len(VALUES)}
#: Of each cell: row, vehicle, feed, whether it was used, and its sums (``streams.cells.SUMS`` without the count of steps).
CELL = (
    "row", "vehicle", "feed", "used", "dist_mm", "time_ms", "near_dist_mm", "near_time_ms", "dwell_ms", "still_ms", "newest_ms",
)  # fmt: skip
#: Of each pair of streets one of which had fixes that the other nearly had: both, as indices into ``segments``; for the other ``LEFT_LINE`` or ``OWN_LINE`` where it is no
#: street; sums (``streams.nearly.SUMS``).
NEARLY = ("segment", "other", "fixes", "distance_mm", "other_mm", "margin", "by_distance", "by_heading")
LEFT_LINE, OWN_LINE = -1, -2


class Reading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a counting site said of a row's segment."""

    row: int
    site_id: str
    direction: str
    window_end_ms: int
    flow_vph: float | None
    speed_kmh: float | None
    worth: float = 1.0  #: what it counted for by the health of its feed, 0..1


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """One part of the evidence of one final minute: of the segments whose state was published. Columns are the bytes of little-endian arrays."""

    schema: int
    city: str
    window: int  #: minutes since 1970
    part: int
    parts: int
    network: str
    simulated: bool
    segments: tuple[str, ...]  #: those of the rows, then the neighbours that they name
    values: bytes  #: (n, VALUES) float32
    ahead: bytes  #: (n, AHEAD) int32, index into ``segments``, -1: none
    ahead_weight: bytes  #: (n, AHEAD) float32, share of the value
    vehicles: tuple[str, ...]
    feeds: tuple[str, ...]
    cells: bytes  #: (m, CELL) int64, by row
    readings: tuple[Reading, ...]
    worth: tuple[float, ...] = ()  #: of each feed: what its vehicles counted for by its health, 0..1; older evidence does not say
    nearly: bytes = b""  #: (p, NEARLY) int64

    def rows(self) -> NDArray[np.float64]:
        """(n, VALUES); columns that an older schema had not are NaN."""
        values = np.frombuffer(self.values, "<f4").reshape(-1, _WIDTH[self.schema]).astype(np.float64)
        return np.pad(values, ((0, 0), (0, len(VALUES) - values.shape[1])), constant_values=np.nan)


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One vehicle or one counting site."""

    kind: Literal["probe", "loop"]
    used: bool
    weight: float  #: share of the value
    why: str | None = None  #: it was left out, wholly or in part
    health: float | None = None  #: what it told counts for this share only, 0..1, since its feed is late, silent or refused in part
    feed: str | None = None
    vehicle_id: str | None = None
    site_id: str | None = None
    direction: str | None = None
    speed_kmh: float | None = None  #: of a vehicle outside stops; of those that passed a site
    distance_m: float | None = None  #: that counted
    time_s: float | None = None
    dwell_s: float | None = None  #: boarding: in no speed
    still_s: float | None = None  #: standing, not boarding
    flow_vph: float | None = None
    newest: Utc | None = None  #: end of what it said


class Earlier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen on the segment in an earlier minute, which fades."""

    window_start: Utc
    vehicles: int
    speed_kmh: float | None = None


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A segment straight ahead that this one learns from."""

    segment_id: str
    weight: float


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another place where fixes of the minute nearly lay, or nearly here."""

    kind: Literal[
        "street", "left_line", "own_line"
    ]  #: the other is a street; that the vehicle had left its line; the line that it had left
    won: bool  #: the fixes went to the segment that is explained; else to the other one, and this one nearly had them
    fixes: int
    distance_m: float | None = None  #: mean, from this segment (``left_line``: from the vehicle's line)
    other_distance_m: float | None = None
    segment_id: str | None = None  #: the other street
    margin_nats: float | None = None  #: mean log-likelihood by which the loser lost, the sum of the next three
    distance_nats: float | None = None
    heading_nats: float | None = None
    way_nats: float | None = None  #: the way there: earlier fixes, junctions, turning round


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the value; they sum to 1."""

    probe: float  #: vehicles of this minute
    loop: float  #: counting sites of this minute
    memory: float  #: earlier minutes of this segment
    street: float  #: the street straight ahead
    prior: float  #: what is expected here, moved by what goes on in all streets ahead


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one segment has its value in one minute."""

    segment_id: str
    window_start: Utc  #: the minute asked for
    window_end: Utc
    said: Utc  #: start of the minute whose record stands in it
    network_version: str
    algorithm: str
    origin: Origin
    confidence: float
    expected_kmh: float  #: in light traffic
    text: list[str]  #: the same in sentences
    weights: Weights
    sources: list[Source]
    earlier: list[Earlier]
    neighbours: list[Neighbour]
    candidates: list[Candidate] = []  #: of matching: the ones with the most fixes first
    speed_kmh: float | None = None
    speed_p20_kmh: float | None = None
    speed_p80_kmh: float | None = None
    pace_ratio: float | None = None  #: time that the street's vehicles took over what light traffic takes, before doubt
    ahead_ratio: float | None = None  #: the same of all streets ahead
    usual_ratio: float | None = None  #: the same as it usually is at this time of the week, where a profile tells it (docs/profiles.md)
    closed: bool | None = None  #: a message closes it, so no speed is claimed
    simulated: bool | None = None


Language = Literal["en", "fi", "sv"]


class Words(NamedTuple):
    """What the sentences are made of, in one language."""

    decimal: str
    vehicles: tuple[str, str]  #: one, several
    sites: tuple[str, str]
    segments: tuple[str, str]
    drove: str
    measured: str
    memory: str
    passages: str
    ahead: str
    light: str  #: what is expected here, where nothing usual is known
    usual: str
    prior: str
    left_out: str
    no_value: str
    closed: str
    stands: str
    other_feed: str
    all_boarding: str
    zone_left_out: str
    no_speed: str
    health: str
    fixes: tuple[str, str]
    reasons: tuple[str, str, str]  #: distance, heading, way
    won: str
    lost: str
    kept: str
    off_line: str


WORDS: dict[Language, Words] = {
    "en": Words(
        decimal=".", vehicles=("vehicle", "vehicles"), sites=("counting site", "counting sites"), segments=("segment", "segments"),
        drove="{vehicles} drove {m} m in {s} s outside stops: {kmh} km/h",
        measured="{sites} measured {speeds}, turned into a mean over the street",
        memory="earlier minutes of this segment, fading",
        passages=": {n} passages in the last {minutes} min",
        ahead="{segments} straight ahead on the same street",
        light="what light traffic does here, {kmh} km/h",
        usual="what is usual here at this time of the week, {usual} km/h ({kmh} in light traffic)",
        prior="{expected}, with the streets ahead taking {times} times their usual time",
        left_out="Left out",
        no_value="No value: nothing that was seen lately informs this segment.",
        closed="Closed: a message says that nobody may drive here, so no speed is claimed, whatever was seen.",
        stands="Nothing was published of the asked minute: the record of {age} min before stands.",
        other_feed="another feed that ranks higher told of this vehicle",
        all_boarding="all its time here was boarding, or driving in a stop's zone",
        zone_left_out="the zone of the stop where it boarded is left out",
        no_speed="it told no speed: nobody passed, or the site does not measure it",
        health="Less weight, since the feed is late, silent or refused in part",
        fixes=("position", "positions"), reasons=("distance", "heading", "the way there"),
        won="Matching: {fixes} nearly went to {other} ({far} m off, {near} m here); it lost by {nats} nats, most by {reason}.",
        lost="Matching: {fixes} nearly came here from {other} ({far} m off here, {near} m there); this street lost by {nats} nats, most by {reason}.",
        kept="Matching: {fixes} lay {near} m from the vehicle's line and were kept on it: too near for a detour.",
        off_line="Matching: {fixes} came from vehicles that had left their line, {far} m away: matched to the streets instead.",
    ),
    "fi": Words(
        decimal=",", vehicles=("ajoneuvo", "ajoneuvoa"), sites=("laskentapiste", "laskentapistettä"), segments=("katuosuus", "katuosuutta"),
        drove="{vehicles} ajoi {m} m {s} sekunnissa pysäkkien ulkopuolella: {kmh} km/h",
        measured="{sites} mittasi {speeds}, muunnettuna keskinopeudeksi kadulla",
        memory="tämän osuuden aiemmat minuutit, hiipuen",
        passages=": {n} ohitusta viimeisten {minutes} minuutin aikana",
        ahead="{segments} suoraan edessä samalla kadulla",
        light="miten hiljaisessa liikenteessä täällä ajetaan, {kmh} km/h",
        usual="mikä täällä on tavallista tähän aikaan viikosta, {usual} km/h ({kmh} hiljaisessa liikenteessä)",
        prior="{expected}, kun edessä olevilla kaduilla kuluu {times}-kertainen aika tavalliseen nähden",
        left_out="Jätetty pois",
        no_value="Ei arvoa: mikään viime aikoina nähty ei kerro tästä osuudesta.",
        closed="Suljettu: tiedotteen mukaan tästä ei ajeta, joten nopeutta ei ilmoiteta, mitä tahansa on nähty.",
        stands="Kysytystä minuutista ei julkaistu mitään: voimassa on {age} minuuttia vanhempi tietue.",
        other_feed="ajoneuvosta kertoi toinen, etusijalla oleva syöte",
        all_boarding="kaikki sen aika täällä oli pysähdystä tai ajoa pysäkin alueella",
        zone_left_out="pysäkin alue, jolla se otti matkustajia, on jätetty pois",
        no_speed="se ei kertonut nopeutta: kukaan ei ajanut ohi, tai piste ei mittaa sitä",
        health="Pienempi paino, koska syöte on myöhässä, vaiti tai osin hylätty",
        fixes=("sijainti", "sijaintia"), reasons=("etäisyys", "suunta", "kulkureitti"),
        won="Kohdistus: {fixes} oli mennä kadulle {other} ({far} m sinne, {near} m tänne); se hävisi {nats} natilla, eniten vaikutti {reason}.",
        lost="Kohdistus: {fixes} kadulta {other} oli tulla tänne ({far} m tänne, {near} m sinne); tämä katu hävisi {nats} natilla, eniten vaikutti {reason}.",
        kept="Kohdistus: {fixes} oli {near} m päässä ajoneuvon linjasta ja pidettiin sillä: liian lähellä poikkeusreitiksi.",
        off_line="Kohdistus: {fixes} tuli ajoneuvoista, jotka olivat jättäneet linjansa, {far} m päässä: kohdistettu katuihin.",
    ),
    "sv": Words(
        decimal=",", vehicles=("fordon", "fordon"), sites=("mätpunkt", "mätpunkter"), segments=("gatudel", "gatudelar"),
        drove="{vehicles} körde {m} m på {s} s utanför hållplatser: {kmh} km/h",
        measured="{sites} mätte {speeds}, omräknat till medelhastighet på gatan",
        memory="tidigare minuter på denna gatudel, avtagande",
        passages=": {n} passager under de senaste {minutes} minuterna",
        ahead="{segments} rakt fram på samma gata",
        light="vad gles trafik gör här, {kmh} km/h",
        usual="vad som är vanligt här vid denna tid i veckan, {usual} km/h ({kmh} i gles trafik)",
        prior="{expected}, när gatorna framför tar {times} gånger sin vanliga tid",
        left_out="Utelämnat",
        no_value="Inget värde: inget som setts på sistone säger något om denna gatudel.",
        closed="Avstängt: enligt ett meddelande kör ingen här, så ingen hastighet anges, vad som än har setts.",
        stands="Inget publicerades om den begärda minuten: posten från {age} min tidigare gäller.",
        other_feed="ett annat flöde med högre rang berättade om fordonet",
        all_boarding="all dess tid här var påstigning eller körning i en hållplatszon",
        zone_left_out="zonen vid hållplatsen där det stod är utelämnad",
        no_speed="den gav ingen hastighet: ingen passerade, eller punkten mäter den inte",
        health="Mindre vikt, eftersom flödet är sent, tyst eller delvis avvisat",
        fixes=("position", "positioner"), reasons=("avståndet", "riktningen", "vägen dit"),
        won="Matchning: {fixes} hade nästan hamnat på {other} ({far} m dit, {near} m hit); den förlorade med {nats} nat, mest på grund av {reason}.",
        lost="Matchning: {fixes} på {other} hade nästan hamnat här ({far} m hit, {near} m dit); denna gata förlorade med {nats} nat, mest på grund av {reason}.",
        kept="Matchning: {fixes} låg {near} m från fordonets linje och hölls kvar på den: för nära för en omväg.",
        off_line="Matchning: {fixes} kom från fordon som hade lämnat sin linje, {far} m bort: matchade till gatorna i stället.",
    ),
}  # fmt: skip

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Evidence)


def encode(evidence: Evidence) -> bytes:
    return _encoder.encode(evidence)


def decode(data: bytes) -> Evidence:
    """
    Raises:
        ValueError: not evidence of this schema.
    """
    try:
        evidence = _decoder.decode(data)
    except msgspec.MsgspecError as e:
        raise ValueError(f"not evidence: {e}") from e
    if evidence.schema not in _WIDTH:
        raise ValueError(f"evidence of schema {evidence.schema}, expected {SCHEMA}")
    return evidence


def explain(segment_id: str, window: int, heard: Iterable[Evidence], language: Language = "en") -> Explanation | None:
    """Of the evidence of some minutes, why the segment has its value in ``window`` (minutes since 1970), its sentences in a language. None: nothing was said of it in the
    last minutes."""
    mine = {}
    for e in heard:
        if window - STANDS < e.window <= window and segment_id in e.segments:
            row = e.segments.index(segment_id)
            if row < len(e.values) // (4 * _WIDTH[e.schema]):
                mine[e.window] = (e, row)
    if not mine:
        return None
    said = max(mine)
    e, row = mine[said]
    v = dict(zip(VALUES, e.rows()[row].tolist(), strict=True))
    known = np.isfinite(v["speed_kmh"])
    ahead = np.frombuffer(e.ahead, "<i4").reshape(-1, AHEAD)[row]
    weight = np.frombuffer(e.ahead_weight, "<f4").reshape(-1, AHEAD)[row]
    neighbours = [
        Neighbour(segment_id=e.segments[k], weight=round(float(x), 3)) for k, x in zip(ahead.tolist(), weight, strict=True) if x >= 5e-4
    ]
    say = WORDS[language]
    sources = _sources(e, row, v, say)
    candidates = _candidates(e, row)
    weights = Weights(
        probe=round(v["probe"], 3), loop=round(v["loop"], 3), memory=round(v["memory"], 3), street=round(float(weight.sum()), 3),
        prior=round(v["prior"], 3),
    )  # fmt: skip
    earlier = [_earlier(*mine[w], w) for w in sorted(mine, reverse=True) if w < said]
    origin: Origin = ORIGINS[int(v["origin"])]  # type: ignore[assignment]
    return Explanation(
        segment_id=segment_id, window_start=rfc3339(window * WINDOW_MS), window_end=rfc3339((window + 1) * WINDOW_MS), said=rfc3339(said * WINDOW_MS),
        network_version=e.network, algorithm=ALGORITHM, origin=origin, confidence=round(v["confidence"], 3),
        expected_kmh=round(v["expected_kmh"], 1), weights=weights, sources=sources, earlier=earlier, neighbours=neighbours,
        speed_kmh=round(v["speed_kmh"], 2) if known else None, speed_p20_kmh=round(v["p20_kmh"], 2) if known else None,
        speed_p80_kmh=round(v["p80_kmh"], 2) if known else None, pace_ratio=round(v["pace_ratio"], 3), ahead_ratio=round(v["ahead_ratio"], 3),
        usual_ratio=round(v["usual_ratio"], 3) if np.isfinite(v["usual_ratio"]) else None,
        candidates=candidates, closed=True if v["closed"] == 1 else None, simulated=True if e.simulated else None,
        text=[*_text(v, sources, earlier, neighbours, window - said, say), *_said_of(candidates, say)],
    )  # fmt: skip


def _cells(e: Evidence, row: int) -> NDArray[np.int64]:
    cells = np.frombuffer(e.cells, "<i8").reshape(-1, len(CELL))
    a, b = np.searchsorted(cells[:, 0], [row, row + 1])
    return cells[a:b]


def _sources(e: Evidence, row: int, v: dict[str, float], say: Words) -> list[Source]:
    """Vehicles and sites of a row, each with its part of the weight of its kind."""
    out = []
    counted = []
    for _, vehicle, feed, used, dist, time, near_dist, near_time, dwell, still, newest in _cells(e, row).tolist():
        stopped = dwell > 0
        dist_m, time_s = (dist - near_dist * stopped) / 1000.0, (time - near_time * stopped) / 1000.0
        takes_part = bool(used) and time_s > 0
        why = None
        if not used:
            why = say.other_feed
        elif not takes_part:
            why = say.all_boarding
        elif stopped and near_time:
            why = say.zone_left_out
        worth = e.worth[feed] if e.worth else 1.0
        counted.append(worth * (time_s + dist_m * 3.6 / v["expected_kmh"]) if takes_part else 0.0)
        out.append(
            Source(
                kind="probe", used=takes_part, weight=0.0, why=why, feed=e.feeds[feed], vehicle_id=e.vehicles[vehicle],
                health=round(worth, 3) if takes_part and worth < 1 else None,
                speed_kmh=round(dist_m / time_s * 3.6, 1) if time_s > 0 else None, distance_m=round(dist_m, 1), time_s=round(time_s, 1),
                dwell_s=round(dwell / 1000.0, 1) if dwell else None, still_s=round(still / 1000.0, 1) if still else None, newest=rfc3339(newest),
            )
        )  # fmt: skip
    total = sum(counted)
    out = [msgspec.structs.replace(s, weight=round(v["probe"] * c / total, 3) if c else 0.0) for s, c in zip(out, counted, strict=True)]
    readings = [r for r in e.readings if r.row == row]
    spoke = sum(r.worth for r in readings if r.speed_kmh is not None and r.speed_kmh > 0)
    for r in readings:
        used = r.speed_kmh is not None and r.speed_kmh > 0
        why = None if used else say.no_speed
        out.append(
            Source(
                kind="loop", used=used, weight=round(v["loop"] * r.worth / spoke, 3) if used else 0.0, why=why, site_id=r.site_id, direction=r.direction,
                speed_kmh=r.speed_kmh, flow_vph=r.flow_vph, newest=rfc3339(r.window_end_ms), health=round(r.worth, 3) if used and r.worth < 1 else None,
            )
        )  # fmt: skip
    return out


def _candidates(e: Evidence, row: int) -> list[Candidate]:
    """Where fixes of the segment nearly lay, and those that nearly lay here."""
    out = []
    for segment, other, fixes, near, far, *nats in np.frombuffer(e.nearly, "<i8").reshape(-1, len(NEARLY)).tolist():
        if row not in (segment, other):
            continue
        won = segment == row
        here, there = (round(x / fixes / 1000.0, 1) for x in ((near, far) if won else (far, near)))
        if other == LEFT_LINE:
            out.append(Candidate(kind="left_line", won=True, fixes=fixes, distance_m=here))
        elif other == OWN_LINE:
            out.append(Candidate(kind="own_line", won=True, fixes=fixes, distance_m=here, other_distance_m=there))
        else:
            margin, distance, heading = (x / fixes / 1000.0 for x in nats)
            out.append(
                Candidate(
                    kind="street", won=won, fixes=fixes, distance_m=here, other_distance_m=there, segment_id=e.segments[other if won else segment],
                    margin_nats=round(margin, 2), distance_nats=round(distance, 2), heading_nats=round(heading, 2),
                    way_nats=round(margin - distance - heading, 2),
                )
            )  # fmt: skip
    return sorted(out, key=lambda c: (-c.fixes, c.kind, c.segment_id or "", c.won))[:MOST_CANDIDATES]


def _said_of(candidates: list[Candidate], say: Words) -> list[str]:
    """The same in sentences."""

    def number(value: float | None, digits: int) -> str:
        return f"{value or 0.0:.{digits}f}".replace(".", say.decimal)

    out = []
    for c in candidates:
        form = {"left_line": say.kept, "own_line": say.off_line}.get(c.kind, say.won if c.won else say.lost)
        nats = (c.distance_nats or 0.0, c.heading_nats or 0.0, c.way_nats or 0.0)
        near, far = (c.distance_m, c.other_distance_m) if c.won else (c.other_distance_m, c.distance_m)
        out.append(
            form.format(
                fixes=f"{c.fixes} {say.fixes[c.fixes != 1]}", other=c.segment_id, near=number(near, 0), far=number(far, 0),
                nats=number(c.margin_nats, 1), reason=say.reasons[nats.index(max(nats))],
            )
        )  # fmt: skip
    return out


def _earlier(e: Evidence, row: int, window: int) -> Earlier:
    cells = _cells(e, row)
    cells = cells[cells[:, CELL.index("used")] > 0]
    stopped = cells[:, CELL.index("dwell_ms")] > 0
    dist = (cells[:, CELL.index("dist_mm")] - stopped * cells[:, CELL.index("near_dist_mm")]).sum()
    time = (cells[:, CELL.index("time_ms")] - stopped * cells[:, CELL.index("near_time_ms")]).sum()
    return Earlier(
        window_start=rfc3339(window * WINDOW_MS), vehicles=len(cells), speed_kmh=round(float(dist / time * 3.6), 1) if time > 0 else None
    )


def _text(
    v: dict[str, float], sources: list[Source], earlier: list[Earlier], neighbours: list[Neighbour], age: int, say: Words
) -> list[str]:
    """The explanation in sentences, the heaviest source first."""

    def number(value: float, digits: int = 0) -> str:
        return f"{value:.{digits}f}".replace(".", say.decimal)

    def many(count: int, forms: tuple[str, str]) -> str:
        return f"{count} {forms[count != 1]}"

    probes = [s for s in sources if s.kind == "probe" and s.used]
    sites = [s for s in sources if s.kind == "loop" and s.used]
    said: list[tuple[float, str]] = []
    if probes:
        metres, seconds = sum(s.distance_m or 0.0 for s in probes), sum(s.time_s or 0.0 for s in probes)
        speed = number(metres / max(seconds, 0.1) * 3.6, 1)
        said.append(
            (v["probe"], say.drove.format(vehicles=many(len(probes), say.vehicles), m=number(metres), s=number(seconds), kmh=speed))
        )
    if sites:
        speeds = ", ".join(f"{number(s.speed_kmh or 0.0)} km/h" for s in sites)
        said.append((v["loop"], say.measured.format(sites=many(len(sites), say.sites), speeds=speeds)))
    if v["memory"] >= 5e-4:
        seen = [x for x in earlier if x.vehicles]
        told = say.passages.format(n=sum(x.vehicles for x in seen), minutes=len(earlier)) if seen else ""
        said.append((v["memory"], say.memory + told))
    if neighbours:
        said.append((sum(n.weight for n in neighbours), say.ahead.format(segments=many(len(neighbours), say.segments))))
    usual = v["expected_kmh"] / v["usual_ratio"] if np.isfinite(v["usual_ratio"]) else None
    expected = (say.light if usual is None else say.usual).format(kmh=number(v["expected_kmh"]), usual=number(usual or 0.0))
    said.append((v["prior"], say.prior.format(expected=expected, times=number(v["ahead_ratio"], 1))))
    closed = v["closed"] == 1
    out = [say.closed] if closed else [f"{100 * share:.0f} %: {text}." for share, text in sorted(said, key=lambda x: -x[0])]
    left = [s for s in sources if not s.used]
    if left:
        out.append(f"{say.left_out}: " + "; ".join(f"{s.vehicle_id or s.site_id} ({s.why})" for s in left) + ".")
    less = [f"{s.vehicle_id or s.site_id} ({100 * s.health:.0f} %)" for s in sources if s.health is not None]
    if less and not closed:
        out.append(f"{say.health}: {', '.join(less)}.")
    if not np.isfinite(v["speed_kmh"]) and not closed:
        out.append(say.no_value)
    if age:
        out.append(say.stands.format(age=age))
    return out
