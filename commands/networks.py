"""``network``: road networks."""

from __future__ import annotations

from pathlib import Path

import click

from commands.shared import load_city, network_folder, with_settings


@click.group()
def network() -> None:
    """Road networks."""


@network.command("build", epilog="Example: tilannekuva network build helsinki --osm finland.osm.pbf --gtfs hsl.zip")
@click.argument("city")
@click.option("--osm", type=click.Path(exists=True, path_type=Path), help="OSM extract, .osm.pbf")
@click.option("--gtfs", type=click.Path(exists=True, path_type=Path), help="GTFS static, .zip")
@click.option(
    "--lines",
    type=click.Path(exists=True, path_type=Path),
    help="Line geometries (HSL's shapefile as .zip), where there is no GTFS or no OSM.",
)
@click.option("--area", type=click.Path(exists=True, path_type=Path), help="Polygon (GeoJSON or GeoPackage) to cut to.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder for the network; default: where the other commands look.")
@with_settings
def network_build(
    city: str, osm: Path | None, gtfs: Path | None, lines: Path | None, area: Path | None, to: Path | None, settings: tuple[str, ...]
) -> None:
    """Directed road segments and the shapes of the lines of a CITY, as GeoParquet."""
    from geo import store
    from geo.build import build

    c = load_city(city, settings)
    net = build(
        c.name,
        osm=osm,
        gtfs=gtfs,
        lines=lines,
        area=area,
        crs=c.crs,
        licence=c.network.licence if osm else c.licence,
        attribution=c.network.attribution if osm else c.attribution[0],
    )
    folder = to or network_folder(c)
    store.save(net, folder)
    click.echo(f"{folder}: {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}; {net.attribution}")
