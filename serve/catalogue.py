"""The catalogue of open topics: mobilityDCAT-AP 1.1 as Turtle and JSON-LD, one dataset a city and product, with its quality as it is now; and schema.org's view of it.

The profile asks for concepts of its own vocabularies and of the EU's; the EU's are typed here, so that the document can be checked by itself. Kafka is no concept
of the profile: it is "other" with push, and told in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rdflib import RDF, RDFS, BNode, Graph, Literal, Namespace, URIRef
from rdflib.namespace import DCAT, DCTERMS, FOAF, SKOS, XSD

from models import schemas
from models.asyncapi import licence_url
from models.topics import PRODUCTS, Product, open_topic
from serve.http import Box

MOB = Namespace("https://w3id.org/mobilitydcat-ap#")
_V = "https://w3id.org/mobilitydcat-ap/"
_EU = "http://publications.europa.eu/resource/authority/"
DQV = Namespace("http://www.w3.org/ns/dqv#")
OA = Namespace("http://www.w3.org/ns/oa#")
VCARD = Namespace("http://www.w3.org/2006/vcard/ns#")
GEO = Namespace("http://www.opengis.net/ont/geosparql#")
PUBLISHER = "tilannekuva contributors"
#: The records of the catalogue exist since then.
CREATED = "2026-01-01"

_PT = ("public-transport-scheduled-transport", "real-time-estimated-departure-and-arrival-times")
_TRAFFIC = ("real-time-traffic-data", "speed", "current-travel-times")
#: By product: concepts of the profile's mobility themes; the first is the category.
THEMES: dict[str, tuple[str, ...]] = {
    "vehicle-position": _PT,
    "stop-passage": _PT,
    "line-fluency": _PT,
    "sensor-observation": ("real-time-traffic-data", "traffic-volume", "speed"),
    "traffic-signal": ("dynamic-traffic-signs-and-regulations",),
    "road-weather": ("road-events-and-conditions", "road-weather-conditions"),
    "situation": ("road-events-and-conditions", "accidents-and-incidents"),
    "shared-vehicle-station": ("sharing-and-hiring-services", "bike-sharing-availability"),
    "parking": ("parking-service-and-rest-area-information", "car-parking-availability"),
    "segment-state": _TRAFFIC,
    "area-state": _TRAFFIC,
    "segment": ("static-road-network-data", "geometry"),
}
_MODES: dict[str, tuple[str, ...]] = {
    "vehicle-position": ("bus", "tram-light-rail"),
    "stop-passage": ("bus", "tram-light-rail"),
    "shared-vehicle-station": ("bike-sharing",),
}
#: Concepts of the EU's that stand for how often something is new.
_FREQUENCY = {
    "30 s to 5 min": f"{_V}update-frequency/5min",
    "1 to 10 min": f"{_V}update-frequency/10min",
    "1 to 5 min": f"{_V}update-frequency/5min",
    "at most 1 min": f"{_V}update-frequency/1min",
    "1 min": f"{_V}update-frequency/1min",
    "5 min": f"{_V}update-frequency/5min",
}
_EU_LICENCES = {"CC-BY-4.0": "CC_BY_4_0", "CC0-1.0": "CC0", "ODbL-1.0": "ODC_BL"}
_METRICS = {
    "timeliness": "Seconds from an event to its arrival here, 95th percentile of the slowest of the feeds behind it",
    "availability": "Share of the feeds behind it that are in order now",
    "completeness": "Share of what could be told that is told: accepted messages, or segments with a measured state",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a product is now; None where that is not known."""

    timeliness_s: float | None = None
    availability: float | None = None
    completeness: float | None = None
    records: int = 0  #: keys that are held


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue says of a city."""

    name: str
    title: str
    licence: str
    attribution: tuple[str, ...]
    network_licence: str
    box: Box
    topics: dict[str, str]  #: product -> topic
    rest: dict[str, str]  #: product -> path of its REST view
    log_time: str | None
    quality: dict[str, Quality]


def licence_of(entry: Entry, product: str) -> str:
    """Licence of a product: the network has its own."""
    return entry.network_licence if product == "segment" else entry.licence


def description_of(product: Product) -> str:
    """First words of the record's documentation, for people who look for data."""
    text = str(schemas.schema(product.name)["description"]).partition(" Kafka key:")[0]
    return f"{text} Updated: {product.cadence}."


def wkt(box: Box) -> str:
    west, south, east, north = box
    return f"POLYGON(({west:g} {south:g},{east:g} {south:g},{east:g} {north:g},{west:g} {north:g},{west:g} {south:g}))"


class _Writer:
    def __init__(self, base: str, kafka_host: str) -> None:
        self.base, self.kafka_host = base, kafka_host
        self.g = Graph()
        for prefix, namespace in (("mobilitydcatap", MOB), ("dqv", DQV), ("oa", OA), ("vcard", VCARD), ("geosparql", GEO)):
            self.g.bind(prefix, namespace)
        self.publisher = URIRef(f"{base}/catalog#publisher")
        self.add(self.publisher, RDF.type, FOAF.Agent)
        self.add(self.publisher, RDF.type, FOAF.Organization)
        self.add(self.publisher, FOAF.name, Literal(PUBLISHER, lang="en"))
        self.contact = URIRef(f"{base}/catalog#contact")
        self.add(self.contact, RDF.type, VCARD.Kind)
        self.add(self.contact, VCARD.fn, Literal(PUBLISHER))
        self.add(self.contact, VCARD.hasURL, URIRef(f"{base}/docs"))

    def add(self, s: Any, p: Any, o: Any) -> None:
        self.g.add((s, p, o))

    def concept(self, kind: Any, path: str, label: str) -> URIRef:
        """A concept of the EU's, typed: the profile looks at the type."""
        iri = URIRef(path if "://" in path else _EU + path)
        self.add(iri, RDF.type, kind)
        self.add(iri, SKOS.prefLabel, Literal(label, lang="en"))
        return iri

    def english(self) -> URIRef:
        return self.concept(DCTERMS.LinguisticSystem, "language/ENG", "English")

    def licence(self, licence: str) -> URIRef:
        code = _EU_LICENCES.get(licence)
        return self.concept(DCTERMS.LicenseDocument, f"licence/{code}" if code else licence_url(licence), licence)

    def area(self, name: str, title: str, box: Box) -> URIRef:
        iri = URIRef(f"{self.base}/catalog/{name}#area")
        self.add(iri, RDF.type, DCTERMS.Location)
        self.add(iri, SKOS.prefLabel, Literal(title, lang="en"))
        self.add(iri, DCAT.bbox, Literal(wkt(box), datatype=GEO.wktLiteral))
        return iri

    def rights(self, licence: str, attribution: Sequence[str]) -> BNode:
        node = BNode()
        self.add(node, RDF.type, DCTERMS.RightsStatement)
        self.add(node, DCTERMS.type, URIRef(f"{_V}conditions-for-access-and-usage/licence-provided-free-of-charge"))
        self.add(node, RDFS.label, Literal(f"{licence}. To be printed: {'; '.join(attribution)}", lang="en"))
        return node

    def catalogue(self, iri: URIRef, title: str, text: str, areas: Sequence[URIRef], licences: Sequence[str]) -> None:
        homepage = URIRef(f"{self.base}/docs")
        self.add(iri, RDF.type, DCAT.Catalog)
        self.add(iri, DCTERMS.title, Literal(title, lang="en"))
        self.add(iri, DCTERMS.description, Literal(text, lang="en"))
        self.add(iri, DCTERMS.publisher, self.publisher)
        self.add(iri, DCTERMS.language, self.english())
        self.add(iri, FOAF.homepage, homepage)
        self.add(homepage, RDF.type, FOAF.Document)
        for area in areas:
            self.add(iri, DCTERMS.spatial, area)
        if len(set(licences)) == 1:
            self.add(iri, DCTERMS.license, self.licence(licences[0]))

    def dataset(self, catalogue: URIRef, entry: Entry, product: Product, area: URIRef) -> None:
        iri = URIRef(f"{self.base}/catalog/{entry.name}/{product.name}")
        title = f"{product.title}, {entry.title}"
        text = description_of(product)
        licence = licence_of(entry, product.name)
        self.add(catalogue, DCAT.dataset, iri)
        record = URIRef(f"{iri}#record")
        self.add(catalogue, DCAT.record, record)
        self.add(record, RDF.type, DCAT.CatalogRecord)
        self.add(record, FOAF.primaryTopic, iri)
        self.add(record, DCTERMS.created, Literal(CREATED, datatype=XSD.date))
        self.add(record, DCTERMS.modified, Literal((entry.log_time or CREATED)[:10], datatype=XSD.date))
        self.add(record, DCTERMS.language, self.english())
        self.add(iri, RDF.type, DCAT.Dataset)
        self.add(iri, DCTERMS.title, Literal(title, lang="en"))
        self.add(iri, DCTERMS.description, Literal(text, lang="en"))
        self.add(iri, DCTERMS.publisher, self.publisher)
        self.add(iri, DCTERMS.spatial, area)
        self.add(iri, DCTERMS.identifier, Literal(entry.topics[product.name]))
        crs = URIRef("http://www.opengis.net/def/crs/EPSG/0/4326")
        self.add(iri, DCTERMS.conformsTo, crs)
        self.add(crs, RDF.type, DCTERMS.Standard)
        self.add(iri, DCAT.contactPoint, self.contact)
        self.add(iri, DCAT.landingPage, URIRef(f"{self.base}/docs/{product.name}"))
        self.add(URIRef(f"{self.base}/docs/{product.name}"), RDF.type, FOAF.Document)
        self.add(iri, DCTERMS.accrualPeriodicity, self._frequency(product))
        emission = product.name.startswith("emission")
        for theme in THEMES.get(product.name, ("other",)):
            self.add(iri, MOB.mobilityTheme, URIRef(f"{_V}mobility-theme/{theme}"))
        self.add(iri, DCAT.theme, self.concept(SKOS.Concept, "data-theme/TRAN", "Transport"))
        if emission:
            self.add(iri, DCAT.theme, self.concept(SKOS.Concept, "data-theme/ENVI", "Environment"))
        for mode in _MODES.get(product.name, ("car",) if product.name in ("segment-state", "sensor-observation", "segment") else ()):
            self.add(iri, MOB.transportMode, URIRef(f"{_V}transport-mode/{mode}"))
        self.add(iri, MOB.georeferencingMethod, URIRef(f"{_V}georeferencing-method/geocoordinates"))
        self.add(iri, MOB.networkCoverage, URIRef(f"{_V}network-coverage/urban-and-local-roads"))
        for word in (*product.name.split("-"), "traffic", "real-time", entry.title):
            self.add(iri, DCAT.keyword, Literal(word, lang="en"))
        period = BNode()
        self.add(iri, DCTERMS.temporal, period)
        self.add(period, RDF.type, DCTERMS.PeriodOfTime)
        self.add(period, DCAT.startDate, Literal(entry.log_time or f"{CREATED}T00:00:00.000Z", datatype=XSD.dateTime))
        self._quality(iri, entry.quality.get(product.name, Quality()))
        for distribution in self._distributions(iri, entry, product):
            self.add(iri, DCAT.distribution, distribution)
            self.add(distribution, DCTERMS.license, self.licence(licence))
            schema = URIRef(f"{self.base}/api/v1/schemas/{product.name}")
            self.add(distribution, DCTERMS.conformsTo, schema)
            self.add(schema, RDF.type, DCTERMS.Standard)
            self.add(distribution, DCTERMS.rights, self.rights(licence, entry.attribution))

    def _frequency(self, product: Product) -> URIRef:
        return self.concept(DCTERMS.Frequency, _FREQUENCY.get(product.cadence, "frequency/UPDATE_CONT"), product.cadence)

    def _quality(self, iri: URIRef, quality: Quality) -> None:
        values = {"timeliness": quality.timeliness_s, "availability": quality.availability, "completeness": quality.completeness}
        told = {name: value for name, value in values.items() if value is not None}
        for name, value in told.items():
            metric, node = URIRef(f"{self.base}/docs#{name}"), BNode()
            self.add(metric, RDF.type, DQV.Metric)
            self.add(metric, SKOS.definition, Literal(_METRICS[name], lang="en"))
            self.add(iri, DQV.hasQualityMeasurement, node)
            self.add(node, RDF.type, DQV.QualityMeasurement)
            self.add(node, DQV.isMeasurementOf, metric)
            self.add(node, DQV.value, Literal(f"{value:.3f}", datatype=XSD.decimal))
        note, body = BNode(), BNode()
        self.add(iri, DQV.hasQualityAnnotation, note)
        self.add(note, RDF.type, DQV.QualityAnnotation)
        self.add(note, OA.motivatedBy, DQV.qualityAssessment)
        self.add(note, OA.hasBody, body)
        self.add(body, RDF.type, OA.TextualBody)
        text = "; ".join([f"{quality.records} keys held", *(f"{name} {value:.3g}" for name, value in told.items())])
        self.add(body, RDF.value, Literal(f"Measured now from feed-health: {text}.", lang="en"))

    def _distributions(self, iri: URIRef, entry: Entry, product: Product) -> list[URIRef]:
        topic, name = entry.topics[product.name], product.name
        out = [
            self._distribution(
                f"{iri}#kafka", f"Kafka topic {topic}", f"kafka://{self.kafka_host}/{topic}", "JSON", "other", "push",
                "Apache Kafka protocol: JSON values with CloudEvents 1.0 headers in binary mode; the address names bootstrap server and topic.",
            )
        ]  # fmt: skip
        if name != "segment":
            stream = f"{self.base}/api/v1/cities/{entry.name}/stream?product={name}"
            out.append(
                self._distribution(
                    f"{iri}#sse", "Server-sent events, to be resumed by Last-Event-ID", stream, "JSON", "http-https", "push",
                    "text/event-stream: data is the record as on the topic.",
                )
            )  # fmt: skip
        out.append(
            self._distribution(
                f"{iri}#rest", "Latest records as GeoJSON", f"{self.base}{entry.rest[name]}", "GEOJSON", "http-https", "pull",
                "GeoJSON pages in the manner of OGC API Features: bbox, datetime, limit.",
            )
        )  # fmt: skip
        out.append(
            self._distribution(
                f"{iri}#parquet", "Latest records as Parquet", f"{self.base}/api/v1/cities/{entry.name}/records/{name}.parquet", "PARQUET",
                "http-https", "pull", "Apache Parquet, columns typed as the schema says; GeoParquet 1.1 where the records have a geometry.",
            )
        )  # fmt: skip
        return out

    def _distribution(self, iri: str, title: str, url: str, form: str, protocol: str, method: str, notes: str) -> URIRef:
        node = URIRef(iri)
        self.add(node, RDF.type, DCAT.Distribution)
        self.add(node, DCTERMS.title, Literal(title, lang="en"))
        self.add(node, DCTERMS.description, Literal(notes, lang="en"))
        self.add(node, DCAT.accessURL, URIRef(url))
        self.add(node, DCTERMS["format"], self.concept(DCTERMS.MediaTypeOrExtent, f"file-type/{form}", form))
        self.add(node, MOB.mobilityDataStandard, URIRef(f"{_V}mobility-data-standard/other"))
        self.add(node, MOB.applicationLayerProtocol, URIRef(f"{_V}application-layer-protocol/{protocol}"))
        self.add(node, MOB.communicationMethod, URIRef(f"{_V}communication-method/{method}"))
        self.add(node, MOB.grammar, URIRef(f"{_V}grammar/json-schema"))
        self.add(node, MOB.dataFormatNotes, Literal(notes, lang="en"))
        return node


def graph(entries: Sequence[Entry], *, base: str, kafka_host: str, merged: bool) -> Graph:
    """The catalogue of some cities. ``merged``: one that lists the datasets of all; else there is one entry and it is that city's.

    Args:
        base: address of the gateway, without a slash at its end.
        kafka_host: host and port of the broker as subscribers reach it.
    """
    w = _Writer(base, kafka_host)
    areas = [w.area(entry.name, entry.title, entry.box) for entry in entries]
    if merged:
        iri, title = URIRef(f"{base}/catalog"), "Live traffic and emissions of cities"
    else:
        iri, title = URIRef(f"{base}/catalog/{entries[0].name}"), f"Live traffic and emissions of {entries[0].title}"
    w.catalogue(
        iri,
        title,
        "Open real-time topics: how the streets flow and what their traffic emits. The same schemas in every city.",
        areas,
        [entry.licence for entry in entries],
    )
    for entry, area in zip(entries, areas, strict=True):
        for product in PRODUCTS.values():
            w.dataset(iri, entry, product, area)
    return w.g


#: Prefixes of the JSON-LD, inside it: nobody has to fetch a context.
CONTEXT = {
    "dcat": str(DCAT),
    "dct": str(DCTERMS),
    "foaf": str(FOAF),
    "skos": str(SKOS),
    "rdfs": str(RDFS),
    "xsd": str(XSD),
    "vcard": str(VCARD),
    "dqv": str(DQV),
    "oa": str(OA),
    "geosparql": str(GEO),
    "mobilitydcatap": str(MOB),
}


def turtle(g: Graph) -> bytes:
    return g.serialize(format="turtle").encode()


def json_ld(g: Graph) -> bytes:
    return g.serialize(format="json-ld", context=CONTEXT, indent=1).encode()


def schema_org(entry: Entry, product: Product, *, base: str, kafka_host: str) -> dict[str, Any]:
    """The dataset as search engines read it from a page: https://schema.org/Dataset."""
    page = f"{base}/docs/{product.name}"
    west, south, east, north = entry.box
    properties = schemas.schema(product.name)["properties"]
    contents = [
        (f"kafka://{kafka_host}/{entry.topics[product.name]}", "application/json"),
        (f"{base}{entry.rest[product.name]}", "application/geo+json"),
        (f"{base}/api/v1/cities/{entry.name}/records/{product.name}.parquet", "application/vnd.apache.parquet"),
    ]
    return {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "@id": f"{base}/catalog/{entry.name}/{product.name}",
        "name": f"{product.title}, {entry.title}",
        "description": f"{description_of(product)} Open real-time data of {entry.title}."[:5000],
        "url": page,
        "identifier": entry.topics[product.name],
        "license": licence_url(licence_of(entry, product.name)),
        "creator": {"@type": "Organization", "name": PUBLISHER},
        "creditText": "; ".join(entry.attribution),
        "isAccessibleForFree": True,
        "keywords": [*product.name.split("-"), "traffic", "real-time"],
        "spatialCoverage": {"@type": "Place", "name": entry.title, "geo": {"@type": "GeoShape", "box": f"{south} {west} {north} {east}"}},
        "temporalCoverage": f"{(entry.log_time or CREATED)[:10]}/..",
        "variableMeasured": [name for name, field in properties.items() if field.get("type") in ("number", "integer", "object")][:30],
        "version": f"v{product.major}",
        "includedInDataCatalog": {"@type": "DataCatalog", "url": f"{base}/catalog"},
        "distribution": [{"@type": "DataDownload", "contentUrl": url, "encodingFormat": form} for url, form in contents],
    }


def topics_of(city: str, prefix: str = "") -> dict[str, str]:
    """Topic of each product of a city."""
    return {product: open_topic(city, product, prefix) for product in PRODUCTS}
