"""``network``: road networks, real ones from maps and schedules, invented ones for demonstration."""

from __future__ import annotations

import json
from pathlib import Path

import click

from commands.shared import load_city, network_folder, with_settings
from connectors.cities import FOLDER, City
from models.errors import ConfigError

_to = click.option("--to", type=click.Path(path_type=Path), help="Folder for the network; default: where the other commands look.")


@click.group()
def network() -> None:
    """Road networks."""


def covered(city: City) -> object:
    """What a city covers, as a polygon in longitude and latitude: its area where its file names one, else its box."""
    import shapely

    box = city.box
    return city.border.polygon if city.border is not None else shapely.box(box.west, box.south, box.east, box.north)


@network.command("build", epilog="Example: tilannekuva network build helsinki --osm finland.osm.pbf --gtfs hsl.zip")
@click.argument("city")
@click.option("--osm", type=click.Path(exists=True, path_type=Path), help="OSM extract, .osm.pbf")
@click.option("--gtfs", type=click.Path(exists=True, path_type=Path), help="GTFS static, .zip")
@click.option(
    "--lines",
    type=click.Path(exists=True, path_type=Path),
    help="Line geometries (HSL's shapefile as .zip), where there is no GTFS or no OSM.",
)
@click.option(
    "--area",
    type=click.Path(exists=True, path_type=Path),
    help="Polygon (GeoJSON or GeoPackage) to cut to; default: the area of the city file, else what its lines run through. See `network area`.",
)
@click.option(
    "--snap",
    type=click.FloatRange(0.0, 20.0),
    default=0.0,
    show_default=True,
    help="Without OSM: drawn lines that lie so many metres apart are one street; 3 suits lines that were drawn by several hands.",
)
@_to
@with_settings
def network_build(
    city: str, osm: Path | None, gtfs: Path | None, lines: Path | None, area: Path | None, snap: float, to: Path | None,
    settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Directed road segments and the shapes of the lines of a CITY, as GeoParquet. Streets that have not changed keep their ids when it is built anew."""
    from geo import store
    from geo.build import build

    c = load_city(city, settings)
    net = build(
        c.name,
        osm=osm,
        gtfs=gtfs,
        lines=lines,
        area=area or (c.border.polygon if c.border is not None else None),
        crs=c.crs,
        licence=c.network.licence if osm else c.licence,
        attribution=c.network.attribution if osm else c.attribution[0],
        snap_m=snap,
    )
    folder = to or network_folder(c)
    store.save(net, folder)
    click.echo(f"{folder}: {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}; {net.attribution}")


@network.command("sources", epilog="Example: tilannekuva network sources turku")
@click.argument("city")
def network_sources(city: str) -> None:
    """Where the map and the schedule of a CITY are to be had: one line each. Nothing is downloaded; deploy/networks.sh does that."""
    n = load_city(city).network
    for kind, address in (("osm", n.osm), ("gtfs", n.gtfs), ("lines", n.lines)):
        if address is not None:
            click.echo(f"{kind}\t{address}")


@network.command("area", epilog="Example: tilannekuva network area vantaa --to vantaa.geojson")
@click.argument("city")
@click.option(
    "--municipality",
    metavar="NAME",
    help="Another polygon: of this municipality, from the file that comes with the cities or --boundaries.",
)
@click.option("--boundaries", type=click.Path(exists=True, path_type=Path), help="File of polygons with names (any format of geopandas), e.g. of all municipalities.")  # fmt: skip
@click.option("--to", type=click.Path(path_type=Path), required=True, help="GeoJSON file to write.")
def network_area(city: str, municipality: str | None, boundaries: Path | None, to: Path) -> None:
    """The polygon that a CITY covers, to cut maps with: its area where its file names one, else its box."""
    import shapely

    polygon = covered(load_city(city)) if municipality is None else _named(boundaries or FOLDER / "municipalities.geojson", municipality)
    feature = {"type": "Feature", "properties": {"name": municipality or city}, "geometry": json.loads(shapely.to_geojson(polygon))}
    to.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}) + "\n", "utf-8")
    click.echo(f"{to}: {', '.join(f'{x:.4f}' for x in shapely.bounds(polygon))} (west, south, east, north)")


def _named(file: Path, name: str) -> object:
    """The polygon of a file in any of whose text columns the name stands.

    Raises:
        ConfigError: there is none.
    """
    import geopandas

    frame = geopandas.read_file(file).to_crs("EPSG:4326")
    found = frame[frame.drop(columns=frame.geometry.name).astype(str).eq(name).any(axis=1)]
    if found.empty:
        raise ConfigError(str(file), "municipality", name, "the name of a polygon in it")
    return found.geometry.union_all()


@network.command("generate", epilog="Example: tilannekuva network generate turku --seed 7 --to /tmp/invented")
@click.argument("city")
@click.option("--seed", default=1, show_default=True, help="Another one invents another town.")
@_to
@with_settings
def network_generate(city: str, seed: int, to: Path | None, settings: tuple[str, ...]) -> None:
    """INVENTED streets and lines inside the area of a CITY, for demonstration where its map is not at hand. They say that they are invented."""
    from demo.towns import TOWNS
    from geo import store
    from geo.generated import generate

    c = load_city(city, settings)
    net = TOWNS[c.name].network(seed) if c.name in TOWNS else generate(c.name, covered(c), seed=seed, crs=c.crs)
    folder = to or network_folder(c)
    store.save(net, folder)
    click.echo(f"{folder}: {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}; {net.attribution}")
