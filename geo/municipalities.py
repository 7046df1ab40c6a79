"""Where cities end, on land and at sea: polygons of municipalities in one file, of which every place has one at most.

Statistics Finland's boundaries end at the coast, so that bridges and ferries would be nowhere. Here the water within ``SEA_M`` of a municipality belongs to the one
whose land is nearest. Run: ``python -m geo.municipalities BOUNDARIES --to connectors/cities/municipalities.geojson Helsinki Espoo …``; BOUNDARIES is Statistics
Finland's file of all municipalities (1:1 000 000), in any format of geopandas, with their names in ``nimi``.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import geopandas
import numpy as np
import shapely

#: How far out the water belongs to somebody, metres: all bridges, and the ferries of the cities' own islands.
SEA_M = 6_000.0
#: Points of the coast that the water is divided by stand at most so far apart, metres.
STEP_M = 200.0
#: The boundaries are drawn for 1:1 000 000; this loses nothing, metres.
SIMPLE_M = 10.0
ATTRIBUTION = "Municipality boundaries 2023 © Statistics Finland, CC BY 4.0; the water divided by the nearest land"


def with_water(land: geopandas.GeoDataFrame, names: list[str]) -> dict[str, shapely.Geometry]:
    """Polygons by name, on the plane of ``land``: no two have a place in common.

    Args:
        land: all municipalities, also those that are not asked for, in metres, with ``nimi``.
    """
    wanted = land[land["nimi"].isin(names)]
    sea = shapely.buffer(wanted.geometry.union_all(), SEA_M, quad_segs=4)
    near = land[land.intersects(shapely.buffer(sea, SEA_M))].reset_index(drop=True)
    water = shapely.difference(sea, near.geometry.union_all())
    coast = shapely.segmentize(near.geometry.boundary.to_numpy(), STEP_M)
    points, owner = shapely.get_coordinates(coast, return_index=True)
    points, first = np.unique(points, axis=0, return_index=True)
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(points), extend_to=sea, ordered=True))
    whole = {}
    for row, name in enumerate(near["nimi"]):
        if name in names:
            own = shapely.intersection(shapely.union_all(cells[owner[first] == row]), water)
            whole[name] = shapely.union(near.geometry[row], own)
    ordered = sorted(whole)
    simple = shapely.coverage_simplify([whole[n] for n in ordered], SIMPLE_M)
    return dict(zip(ordered, simple, strict=True))


@click.command(
    help="Write the cities' polygons. Example: python -m geo.municipalities kunnat.gpkg --to areas.geojson Helsinki Espoo Vantaa"
)
@click.argument("boundaries", type=click.Path(exists=True, path_type=Path))
@click.argument("names", nargs=-1, required=True)
@click.option("--to", type=click.Path(path_type=Path), required=True)
def main(boundaries: Path, names: tuple[str, ...], to: Path) -> None:
    land = geopandas.read_file(boundaries).to_crs("EPSG:3067")
    polygons = with_water(land, list(names))
    if missing := set(names) - set(polygons):
        raise click.ClickException(f"no municipality called {', '.join(sorted(missing))}")
    degrees = geopandas.GeoSeries(list(polygons.values()), crs="EPSG:3067").to_crs("EPSG:4326")
    lines = []
    for name, polygon in zip(polygons, degrees, strict=True):
        geometry = json.loads(shapely.to_geojson(shapely.transform(polygon, lambda c: c.round(5))))
        lines.append(json.dumps({"type": "Feature", "properties": {"name": name}, "geometry": geometry}, separators=(",", ":")))
    head = json.dumps({"type": "FeatureCollection", "attribution": ATTRIBUTION}, ensure_ascii=False)[:-1]
    to.write_text(f'{head}, "features": [\n' + ",\n".join(lines) + "\n]}\n", "utf-8")


if __name__ == "__main__":
    main()
