"""DATEX II 2 (``d2LogicalModel``) and 3 (``payload``, ``messageContainer``): measured data with the table of sites, and situations.

The table comes in a document of its own, once a day; what its numbers mean is remembered, and is part of the observer's snapshot (``export``, ``restore``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from connectors import xml
from connectors.cities import City, FeedSettings
from connectors.columns import Parsed
from connectors.datex2.alertc import table
from connectors.datex2.cut import piece_of
from connectors.datex2.measured import DIRECTION, Role, reading, roles_as_state, roles_from_state, site, xml_type
from connectors.datex2.situations import situation
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, SensorRows, reject

#: Sites whose table is remembered; the largest country's table has some 100,000, a city's part of it a few thousand.
MOST_SITES = 50_000


class Parser:
    """Parses envelopes of one DATEX II feed. Remembers the city's part of the table of sites."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed
        self._namespace = feed.id_namespace or feed.name
        self._box = city.box
        self._locations = table(Path(feed.locations)) if feed.locations is not None else {}
        self._tables: dict[str, tuple[str, dict[str, Role]]] = {}  #: site -> version, roles by index
        self._knows = False  #: a table was read: sites that are not in it are other cities'

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` is the item's in an envelope of messages; in a snapshot it counts sites, measurements and situations over all items."""
        parsed = Parsed()
        rows = SensorRows()
        before = 0
        for k, item in enumerate(envelope.items):
            at = k if envelope.kind == "messages" else None
            try:
                before += self._document(item, at, before, rows, parsed)
            except Refused as e:
                parsed.rejects.append(reject(-1 if at is None else at, item, e))
        if len(rows):
            parsed.sensors = rows.columns()
        parsed.events = len(rows) + len(parsed.sites) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def export(self) -> dict[str, Any]:
        """What later envelopes need of earlier ones, for the observer's snapshot."""
        return {"knows": self._knows, "tables": {k: [version, roles_as_state(roles)] for k, (version, roles) in self._tables.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``export`` gave."""
        self._knows = bool(state["knows"])
        self._tables = {k: (version, roles_from_state(roles)) for k, (version, roles) in state["tables"].items()}

    def _document(self, item: Item, at: int | None, before: int, rows: SensorRows, parsed: Parsed) -> int:
        root = xml.parse(item.body)
        publications = list(xml.descendants(root, "payloadPublication", "payload"))
        if not publications or (xml.name(root) not in ("d2LogicalModel", "payload", "messageContainer", "Envelope")):
            raise Refused("not_datex2", "root", xml.name(root), "d2LogicalModel, payload or messageContainer, bare or in SOAP")
        n, mark = 0, parsed.mark()
        for publication in publications:
            kind = xml_type(publication)
            match kind:
                case "MeasurementSiteTablePublication":
                    elements, read = xml.descendants(publication, "measurementSiteRecord", "measurementSite"), self._site
                    self._knows = True
                case "MeasuredDataPublication":
                    elements, read = xml.children(publication, "siteMeasurements"), self._measurements
                case "SituationPublication":
                    elements, read = xml.children(publication, "situation"), self._situation
                case _:
                    parsed.skip(f"publication_{kind[:40] or 'of no kind'}")
                    continue
            for element in elements:
                index = before + n if at is None else at
                n += 1
                try:
                    read(element, index, item, rows, parsed)
                except Refused as e:
                    parsed.rejects.append(reject(index, item, e, xml.raw(element)))
        if at is None and any(xml_type(p) == "SituationPublication" for p in publications):
            parsed.listed(item.topic, item.ingest_ms, mark, *piece_of(item.body))
        return n

    def _site(self, element: etree._Element, index: int, item: Item, rows: SensorRows, parsed: Parsed) -> None:
        found, identity, version, roles = site(element, self._namespace)
        if found is None:
            parsed.skip("no_place")
            return
        if not self._box.holds(found.lat_deg, found.lon_deg):
            if self._box.holds(found.lon_deg, found.lat_deg):
                raise Refused("swapped_coordinates", "latitude, longitude", f"{found.lat_deg}, {found.lon_deg}", "latitude first")
            parsed.skip("outside_box")
            return
        if len(self._tables) >= MOST_SITES and identity not in self._tables:
            raise Refused("over_limit", "measurementSite", f"more than {MOST_SITES}", "the sites of one city")
        self._tables[identity] = version, roles
        parsed.sites.append(found)

    def _measurements(self, element: etree._Element, index: int, item: Item, rows: SensorRows, parsed: Parsed) -> None:
        reference = xml.child(element, "measurementSiteReference")
        identity = None if reference is None else reference.get("id") or (reference.text or "").strip()
        if not identity:
            raise Refused("missing", "measurementSiteReference", None, "the id of a site")
        known = self._tables.get(identity)
        if known is None and self._knows:
            parsed.skip("outside_box")
            return
        version = "" if reference is None else reference.get("version") or ""
        if known is not None and known[0] != version:
            parsed.skip("other_version_of_site")
            return
        feed = self._feed
        got = reading(element, known[1] if known is not None and known[1] else None, feed.sensor_window_s, feed.sensor_time == "begin")
        if isinstance(got, str):
            parsed.skip(got)
            return
        rows.add(
            index,
            item.ingest_ms,
            got.start_ms,
            got.end_ms,
            site_id=f"{self._namespace}/{identity}",
            direction=DIRECTION,
            flow_vph=got.flow_vph,
            speed_kmh=got.speed_kmh,
            occupancy_pct=got.occupancy_pct,
            fault=got.fault,
        )

    def _situation(self, element: etree._Element, index: int, item: Item, rows: SensorRows, parsed: Parsed) -> None:
        got = situation(element, index, item, self._feed.name, self._namespace, self._box, self._feed.areas, self._locations)
        if isinstance(got, str):
            parsed.skip(got)
        else:
            parsed.stated.append(got)
