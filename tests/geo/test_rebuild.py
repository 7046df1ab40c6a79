"""A newer map of real streets: a street that did not change keeps its segments' ids."""

from __future__ import annotations

from pathlib import Path

import osmium

from geo import osm
from geo.build import build
from geo.network import Network


def newer(old: Path, new: Path) -> tuple[set[int], set[int]]:
    """The map a month later: one street gone, one built that ends in the middle of another, one renamed. Returns the ways that this touches, and the renamed one."""
    ways, _ = osm._read(old)
    uses: dict[int, set[int]] = {}
    for w in ways:
        for n in w.nodes:
            uses.setdefault(n, set()).add(w.way_id)
    streets = [w for w in ways if w.use is not None and w.tags.get("highway") == "residential" and len(w.nodes) > 4]
    gone, joined, renamed = streets[0], streets[len(streets) // 2], streets[-1]
    middle = next(n for n in joined.nodes[1:-1] if len(uses[n]) == 1)
    writer = osmium.SimpleWriter(str(new))
    added = False
    for item in osmium.FileProcessor(str(old)):
        if item.is_way() and not added:  # nodes come before ways
            writer.add_node(osmium.osm.mutable.Node(id=2**40, location=(24.9, 60.2), version=1))
            writer.add_way(osmium.osm.mutable.Way(id=2**40, nodes=[middle, 2**40], tags={"highway": "residential"}, version=1))
            added = True
        if item.is_way() and item.id == gone.way_id:
            continue
        if item.is_way() and item.id == renamed.way_id:
            item = item.replace(tags=dict(item.tags) | {"name": "Uusi nimi", "maxspeed": "20"})
        writer.add(item)
    writer.close()
    touched = {gone.way_id, joined.way_id} | {w for n in gone.nodes for w in uses[n]}
    return touched, {renamed.way_id}


def by_id(network: Network) -> dict[str, tuple[float, str]]:
    s = network.segments
    return {i: (round(float(length), 3), c) for i, length, c in zip(s.segment_id, s.length_m, s.road_class, strict=True)}


def test_a_newer_map_of_helsinki_keeps_the_ids_of_all_streets_but_those_that_changed(extract: Path, tmp_path: Path) -> None:
    touched, renamed = newer(extract, tmp_path / "newer.osm.pbf")
    nets = [build("helsinki", osm=f, crs="EPSG:3067") for f in (extract, tmp_path / "newer.osm.pbf")]
    before, after = map(by_id, nets)

    def way(segment_id: str) -> int:
        return int(segment_id[1:].partition("_")[0])

    lost, new = set(before) - set(after), set(after) - set(before)
    assert lost
    assert {way(i) for i in lost} <= touched
    assert {way(i) for i in new} <= touched | {2**40}
    kept = set(before) & set(after)
    assert {i: before[i] for i in kept} == {i: after[i] for i in kept}
    assert len(kept) > 0.99 * len(before) > 1000
    names = dict(zip(nets[1].segments.segment_id, nets[1].segments.name, strict=True))
    assert {names[i] for i in kept if way(i) in renamed} == {"Uusi nimi"}
    assert nets[0].version != nets[1].version
