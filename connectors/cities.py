"""City files: everything that makes one city different from another, in one TOML file, checked whole before anything is touched.

A key that is unknown, missing or impossible is a ``ConfigError`` that names file, key, value and what was expected. Secrets are never in the file:
it names environment variables, and ``connectors/secrets.py`` reads those when a connector starts.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from connectors.borders import Border, District, border, districts
from connectors.powertrains import Register, register
from models.errors import ConfigError

Family = Literal[
    "hfp",
    "gtfs_realtime",
    "digitraffic",
    "siri",
    "gbfs",
    "datex2",
    "journeys",
    "tampere_lights",
    "foli",
    "oulunliikenne",
    "liipi",
    "fingrid",
]
#: ``mode`` of the vehicles a GTFS-RT feed carries when the feed itself never says.
Mode = Literal["bus", "tram", "train", "metro", "ferry", "unknown"]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
FOLDER = Path(__file__).parent / "cities"
#: Stands in an address for the stops that are asked for in turn.
STOPS = "{stops}"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_ENV = re.compile(r"[A-Z][A-Z0-9_]*")
T = TypeVar("T", bound="_Settings")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: unknown keys are refused."""


class Box(_Settings, frozen=True, kw_only=True):
    """What lies outside is not this city: degrees, WGS 84."""

    south: Annotated[float, Meta(ge=-90, le=90)]  #: latitude, degrees
    west: Annotated[float, Meta(ge=-180, le=180)]  #: longitude, degrees
    north: Annotated[float, Meta(ge=-90, le=90)]  #: latitude, degrees; at most 5 more than south
    east: Annotated[float, Meta(ge=-180, le=180)]  #: longitude, degrees; at most 10 more than west

    def holds(self, lat_deg: float, lon_deg: float) -> bool:
        return self.south <= lat_deg <= self.north and self.west <= lon_deg <= self.east


class NetworkSource(_Settings, frozen=True, kw_only=True):
    """Where the road network and the lines of public transport come from; addresses for people, files are given to ``network build``."""

    osm: str | None = None  #: address of an OpenStreetMap extract
    gtfs: str | None = None  #: address of a GTFS zip
    lines: str | None = None  #: line geometries where there is no GTFS
    licence: str = "ODbL-1.0"  #: of the network: SPDX id or address
    attribution: str = "© OpenStreetMap contributors"  #: the line to print


class Mqtt(_Settings, frozen=True, kw_only=True):
    """One broker and what to subscribe to."""

    url: str  #: mqtt, mqtts, ws or wss, with the port where it is not 1883, 8883, 80, 443
    topics: Annotated[tuple[str, ...], Meta(min_length=1)]  #: topic filters
    version: Literal["3.1.1", "5"] = "3.1.1"  #: of MQTT
    qos: Literal[0, 1] = 0  #: of the subscription
    keepalive_s: Annotated[int, Meta(ge=5, le=600)] = 30  #: longest silence of ours before a ping, seconds
    #: First wait before connecting again; doubles up to 60 s, with jitter. The Digitransit broker asks for at least 30.
    reconnect_s: Seconds = 1.0
    ca_file: str | None = None  #: PEM of a private authority; the system's list otherwise
    username_env: str | None = None  #: environment variable that holds the user's name
    password_env: str | None = None  #: environment variable that holds the password


class Http(_Settings, frozen=True, kw_only=True):
    """One document that is polled."""

    url: str  #: http or https, without user and password
    every_s: Seconds  #: from one request to the next
    method: Literal["GET", "POST"] = "GET"  #: of the request
    body: str | None = None  #: of a POST, sent as JSON
    redirect_hosts: tuple[str, ...] = ()  #: further hosts that a redirect may lead to; secrets never go along
    headers: dict[str, str] = {}  #: sent along; nothing secret
    headers_env: dict[str, str] = {}  #: header name -> environment variable that holds its value
    username_env: str | None = None  #: HTTP Basic
    password_env: str | None = None  #: environment variable that holds the password
    connect_s: Seconds = 5.0  #: longest wait for the connection
    read_s: Seconds = 10.0  #: longest silence within an answer
    total_s: Seconds = 30.0  #: longest time for the whole answer
    max_mb: Annotated[float, Meta(gt=0, le=20)] = 20.0  #: as sent, compressed
    max_unpacked_mb: Annotated[float, Meta(gt=0, le=200)] = 200.0  #: after decompression
    #: Stops in the place of ``{stops}`` in ``url``, asked for in turn, one request every ``every_s``. None named: the stops of the city's network that most trips call at.
    stops: tuple[str, ...] = ()
    most_stops: Annotated[int, Meta(ge=1, le=1000)] = 50  #: of the network's: more are asked for less often each
    stops_a_request: Annotated[int, Meta(ge=1, le=50)] = 1  #: joined by commas; 1 where the service tells of one stop at a time
    ca_file: str | None = None  #: PEM of a private authority; the system's list otherwise


class FeedSettings(_Settings, frozen=True, kw_only=True):
    """One feed: a family that can parse it, how it is reached, and how it deviates from its standard."""

    name: str = ""  #: that of its table; not a key of its own
    family: Family  #: which parser reads it
    cadence_s: Seconds  #: how often something new is expected; feed-health judges silence by it
    partitions: Annotated[int, Meta(ge=1, le=256)] = 1  #: of the raw topic; grows only with a new topic, since vehicles are spread by hash
    mqtt: Mqtt | None = None  #: a broker to listen to
    http: tuple[Http, ...] = ()  #: documents to poll
    secondary_to: str | None = None  #: carries the same vehicles and messages as that feed, later or less; used where the first is silent
    #: A feed whose secrets are not set is left alone and its feed-health says so; without this, connecting stops with the variable's name.
    optional: bool = False
    simulated: bool = False  #: every record that is made of it says so
    allow_private: bool = False  #: addresses of this machine and of private networks may be called
    licence: str | None = None  #: SPDX id or address; None: the city's
    attribution: str | None = None  #: the line to print; None: the city's
    #: ``hsl``: "18/423" becomes "0018/00423", so that it is the same vehicle as in HFP.
    vehicle_id_format: Literal["as_sent", "hsl"] = "as_sent"
    wider: bool = (
        False  #: carries a region or a country: vehicles outside the city's box, or without a position, are passed over and not refused
    )
    zero_is_unknown: bool = False  #: the sender writes 0 for speed, odometer and bearing that it does not know
    position_method: Literal["unknown", "gnss", "snapped"] = (
        "unknown"  #: how positions come about: a receiver's, or put onto the road by the sender
    )
    mode: Mode = "unknown"  #: of its vehicles, where the feed never says
    route_modes: dict[str, Mode] = {}  #: mode by route id, where one feed carries several and does not say which
    #: Put before the ids of vehicles, stations and messages: feeds with the same one speak of the same things. Families that state none: the feed's name.
    id_namespace: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{0,40}$")] = ""
    #: Some senders give ``start_time`` in UTC, against the specification; it is turned into the city's time.
    start_time_zone: Literal["local", "UTC"] = "local"
    #: Ends that a sender appends to GTFS route ids (an operator's number): cut off, so that all feeds of a city name a route alike.
    route_id_ends: tuple[str, ...] = ()
    #: GTFS-RT trip updates: an ``uncertainty`` of 0 says that the vehicle has been at the stop (HSL); others write it on forecasts too.
    certain_is_passed: bool = False
    #: Names of municipalities and regions whose messages concern the city, where a message is not drawn on the map.
    areas: tuple[str, ...] = ()
    #: SIRI's DirectionRef -> GTFS direction_id; words such as "outbound" are known without it, numbers mean what the sender likes.
    directions: dict[str, Literal[0, 1]] = {}
    #: What SIRI's Velocity is in; profiles differ, so that it is not used unless the city file says.
    velocity_unit: Literal["unknown", "mps", "kmh"] = "unknown"
    #: Further hosts that a discovery document (``gbfs.json``) may send us to; its own host always may.
    hosts: tuple[str, ...] = ()
    #: DATEX II: how long a measurement lasted, where neither document nor site table says.
    sensor_window_s: Seconds = 60.0
    #: DATEX II: whether a measurement's time is its end or its beginning, where the document does not say.
    sensor_time: Literal["end", "begin"] = "end"
    #: DATEX II: table of ALERT-C locations, a GeoJSON file beside the city's (``connectors/datex2/alertc.py``). Without one, places that are only coded are on no map.
    locations: str | None = None


class City(_Settings, frozen=True, kw_only=True):
    """A city, ready to use."""

    name: str  #: part of the topics' names: a-z, 0-9, - and _
    title: str  #: for people
    timezone: str  #: IANA name; of timetables and of the day
    crs: str  #: plane for metres: an EPSG code
    box: Box  #: see below
    licence: str  #: SPDX id or URL of what is published
    attribution: Annotated[tuple[str, ...], Meta(min_length=1)]  #: lines to print, one a source
    feeds: tuple[FeedSettings, ...]  #: one table ``[feeds.<name>]`` a feed
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None  #: ISO 3166-1 alpha-2; DATEX II publications name it
    network: NetworkSource = NetworkSource()  #: see below
    #: ``<file>.geojson#<name>`` beside the city file: what lies outside of this polygon is another city's, and is passed over, not refused.
    area: str | None = None
    #: GeoJSON with the polygons of districts, beside the city's file: areas are told of for each of them too.
    districts: str | None = None
    #: CSV beside the city's file that tells the powertrain, and the emission class, of vehicles of public transport (``connectors/powertrains.py``); others have the fleet's mixture.
    powertrains: str | None = None
    #: The city whose feeds these are: it alone connects to them, and this one reads its raw topics.
    raw_of: str | None = None

    def feed(self, name: str) -> FeedSettings:
        """
        Raises:
            ConfigError: the city has no such feed.
        """
        for f in self.feeds:
            if f.name == name:
                return f
        raise ConfigError(f"{self.name}.toml", "feeds", name, _one_of(name, [f.name for f in self.feeds]))

    def better_feeds(self, name: str) -> tuple[str, ...]:
        """Feeds whose word on a vehicle counts before this one's: the one that it is secondary to, and those that the file names before it as secondary to the same.

        >>> load("tampere").better_feeds("itsfactory"), load("tampere").better_feeds("journeys")
        (('journeys', 'digitransit'), ())
        """
        first = self.feed(name).secondary_to
        if first is None:
            return ()
        names = [f.name for f in self.feeds]
        return (first, *(f.name for f in self.feeds[: names.index(name)] if f.secondary_to == first))

    @property
    def raw_city(self) -> str:
        """Whose raw topics its feeds arrive on."""
        return self.raw_of or self.name

    @property
    def border(self) -> Border | None:
        """Where the city ends; None: at its box."""
        if self.area is None:
            return None
        file, _, name = self.area.partition("#")
        return border(FOLDER / file, name)

    @property
    def district_polygons(self) -> tuple[District, ...]:
        """Districts, in the order of their file; none where the city names none."""
        return () if self.districts is None else districts(Path(self.districts))

    @property
    def powertrain_register(self) -> Register:
        """Of vehicles that are known."""
        return Register() if self.powertrains is None else register(Path(self.powertrains))

    def partitions(self) -> dict[str, int]:
        """Partitions of each feed's raw topic."""
        return {f.name: f.partitions for f in self.feeds}


def names() -> list[str]:
    """Cities that come with the project."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name_or_path: str | Path, overrides: Mapping[str, object] | None = None) -> City:
    """Read and check one city.

    Args:
        name_or_path: "helsinki", or the path of a TOML file.
        overrides: values that replace the file's, by dotted key ("feeds.hfp.mqtt.url", "feeds.tms.http.0.url"): how the demo and tests
            put local addresses in the place of the live ones. None takes a key away ("feeds.parking").

    Raises:
        ConfigError: no such city, or a file, key or value that is wrong.

    >>> load("helsinki").feed("hfp").partitions
    4
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and len(path.parts) == 1:
        if str(name_or_path) not in names():
            raise ConfigError(
                str(FOLDER.name), "city", str(name_or_path), _one_of(str(name_or_path), names()) + ", or the path of a .toml file"
            )
        path = FOLDER / f"{name_or_path}.toml"
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(path.name, "file", str(path), f"a file that can be read ({e.strerror})") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(path.name, "file", str(e), "TOML in UTF-8, each key once") from e
    if isinstance(whose := raw.get("raw_of"), str):
        if "feeds" in raw or whose not in names() or whose == raw.get("name"):
            raise ConfigError(path.name, "raw_of", whose, f"one of {', '.join(names())}, and no [feeds] of its own")
        raw["feeds"] = tomllib.loads((FOLDER / f"{whose}.toml").read_text("utf-8")).get("feeds")
    for key, value in (overrides or {}).items():
        _override(raw, path.name, key, value)
    for key in ("districts", "powertrains"):
        if isinstance(file := raw.get(key), str):
            raw[key] = str(path.parent / file)
    for feed in raw["feeds"].values() if isinstance(raw.get("feeds"), dict) else ():
        if isinstance(feed, dict) and isinstance(file := feed.get("locations"), str):
            feed["locations"] = str(path.parent / file)
    return _check(raw, path.name)


def _override(raw: dict[str, Any], file: str, key: str, value: object) -> None:
    *folders, last = key.split(".")
    at: Any = raw
    try:
        for part in folders:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if value is None:
            del at[int(last) if isinstance(at, list) else last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    except (KeyError, IndexError, ValueError, TypeError) as e:
        raise ConfigError(file, key, value, "an override of a table that the file has") from e


def _check(raw: dict[str, Any], file: str) -> City:
    feeds_raw = raw.get("feeds")
    if not isinstance(feeds_raw, dict) or not feeds_raw:
        raise ConfigError(file, "feeds", feeds_raw, "one table [feeds.<name>] a feed, at least one")
    feeds = []
    for name, table in feeds_raw.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(file, f"feeds.{name}", name, "a name of a-z, 0-9, - and _")
        if not isinstance(table, dict):
            raise ConfigError(file, f"feeds.{name}", table, "a table")
        if "name" in table:
            raise ConfigError(file, f"feeds.{name}.name", table["name"], "no such key: the table's own name is the feed's")
        feeds.append(_convert({**table, "name": name}, FeedSettings, file, f"feeds.{name}"))
    city = _convert({**raw, "feeds": []}, City, file, "")
    city = msgspec.structs.replace(city, feeds=tuple(feeds))
    _check_city(city, file)
    for feed in feeds:
        _check_feed(feed, city, file, f"feeds.{feed.name}")
    if city.area is not None and not re.fullmatch(r"[\w.-]+\.geojson#.+", city.area):
        raise ConfigError(file, "area", city.area, "<file>.geojson#<name of a polygon in it>, the file beside the city files")
    _ = city.border, city.district_polygons, city.powertrain_register
    return city


def _check_city(city: City, file: str) -> None:
    if not _NAME.fullmatch(city.name):
        raise ConfigError(file, "name", city.name, "a name of a-z, 0-9, - and _: it is part of the topics' names")
    try:
        ZoneInfo(city.timezone)
    except (ValueError, OSError, KeyError) as e:
        raise ConfigError(file, "timezone", city.timezone, "an IANA time zone such as Europe/Helsinki") from e
    if not re.fullmatch(r"EPSG:\d{4,6}", city.crs):
        raise ConfigError(file, "crs", city.crs, "EPSG:<code> of a plane in metres, such as EPSG:3067")
    box = city.box
    if not box.south < box.north:
        raise ConfigError(file, "box.south", box.south, f"a latitude below box.north ({box.north})")
    if not box.west < box.east:
        raise ConfigError(file, "box.west", box.west, f"a longitude below box.east ({box.east})")
    if (box.north - box.south) > 5 or (box.east - box.west) > 10:
        raise ConfigError(file, "box", (box.south, box.west, box.north, box.east), "the box of one city: at most 5 by 10 degrees")


def _check_feed(feed: FeedSettings, city: City, file: str, at: str) -> None:
    if feed.mqtt is None and not feed.http:
        raise ConfigError(file, at, None, "a table mqtt, or at least one table [[http]]")
    spread = feed.family == "hfp" or (feed.family == "gtfs_realtime" and feed.mqtt is not None and not feed.http)
    if feed.partitions != 1 and not spread:
        raise ConfigError(
            file, f"{at}.partitions", feed.partitions, "1: a polled snapshot is one envelope, and stations stay with their readings"
        )
    if feed.secondary_to is not None and (feed.secondary_to == feed.name or feed.secondary_to not in [f.name for f in city.feeds]):
        others = [f.name for f in city.feeds if f.name != feed.name]
        raise ConfigError(file, f"{at}.secondary_to", feed.secondary_to, _one_of(feed.secondary_to, others))
    if feed.secondary_to is not None and (first := city.feed(feed.secondary_to).secondary_to) is not None:
        raise ConfigError(
            file,
            f"{at}.secondary_to",
            feed.secondary_to,
            f"{first}, which that one is secondary to itself; of several the file's order counts",
        )
    if feed.mqtt is not None:
        check_url(feed.mqtt.url, ("mqtt", "mqtts", "ws", "wss"), file, f"{at}.mqtt.url")
        for topic in feed.mqtt.topics:
            _check_filter(topic, file, f"{at}.mqtt.topics")
        _check_env({"username_env": feed.mqtt.username_env, "password_env": feed.mqtt.password_env}, file, f"{at}.mqtt")
    for k, http in enumerate(feed.http):
        here = f"{at}.http.{k}"
        check_url(http.url, ("http", "https"), file, f"{here}.url")
        _check_env({"username_env": http.username_env, "password_env": http.password_env}, file, here)
        if http.stops and STOPS not in http.url:
            raise ConfigError(file, f"{here}.stops", ", ".join(http.stops)[:60], f"{STOPS} in url, where they go")
        if http.body is not None and http.method != "POST":
            raise ConfigError(file, f"{here}.body", http.body[:60], 'no body, or method = "POST"')
        _check_env({f"headers_env.{name}": env for name, env in http.headers_env.items()}, file, here)
        for name, value in http.headers.items():
            if re.search(r"(?i)authorization|cookie|key|token|secret|password", name):
                raise ConfigError(file, f"{here}.headers.{name}", "(not shown)", "headers_env with the name of an environment variable")
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isascii() or not value.isprintable():
                raise ConfigError(file, f"{here}.headers.{name}", value, "an HTTP header: a token and printable ASCII")


def check_url(url: str, schemes: tuple[str, ...], file: str, key: str) -> None:
    """
    Raises:
        ConfigError: another scheme, no host, a port that is none, or a user and password inside the address (they belong into the environment).
    """
    want = f"{'://, '.join(schemes)}:// and a host"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise ConfigError(file, key, url, f"{want}, port 1-65535 ({e})") from e
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            file, key, "(not shown)", "an address without user and password: name environment variables in username_env, password_env"
        )
    if parts.scheme not in schemes or not parts.hostname or any(c.isspace() for c in url):
        raise ConfigError(file, key, url, want)
    if port == 0:
        raise ConfigError(file, key, url, "a port 1-65535")


def _check_filter(topic: str, file: str, key: str) -> None:
    levels = topic.split("/")
    whole = all(level in ("+", "#") or not set("+#") & set(level) for level in levels)
    if not topic or "\0" in topic or not whole or "#" in levels[:-1]:
        raise ConfigError(file, key, topic, "an MQTT topic filter: + or # alone in a level, # only as the last")


def _check_env(env: dict[str, str | None], file: str, at: str) -> None:
    for key, name in env.items():
        if name is not None and not _ENV.fullmatch(name):
            raise ConfigError(
                file, f"{at}.{key}", "(not shown)", "the NAME of an environment variable, A-Z, 0-9 and _, never the secret itself"
            )


def _one_of(value: str, known: list[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return f"one of {', '.join(known)}" + (f" (did you mean {near[0]}?)" if near else "")


def _convert(raw: dict[str, Any], kind: type[T], file: str, at: str) -> T:
    """msgspec's conversion; its errors in our words, with the value that is in the file."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        found = _AT.match(str(e))
        assert found is not None
        what, path = found["what"], re.findall(r"[^.\[\]]+", found["path"] or "")
        value: Any = raw
        for part in path:
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, ValueError, TypeError):
                value = None
                break
        key = ".".join(x for x in (at, *path) if x)
        if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
            value, name = (value or {}).get(unknown[1]), unknown[1]
            known = [f for f in _fields(kind, path) if f != "name" or not at]
            raise ConfigError(file, ".".join(x for x in (key, name) if x), value, f"no such key; {_one_of(name, known)}") from e
        if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
            raise ConfigError(file, ".".join(x for x in (key, missing[1]) if x), None, "a value: the key is missing") from e
        raise ConfigError(file, key, value, _want(kind, path, what)) from e


_TABLES: dict[str, type[_Settings]] = {"box": Box, "network": NetworkSource, "mqtt": Mqtt, "http": Http}


def _fields(kind: type[_Settings], path: list[str]) -> list[str]:
    """Keys that the table at ``path`` below ``kind`` may have."""
    named = [p for p in path if not p.isdigit()]
    return list((_TABLES.get(named[-1], kind) if named else kind).__struct_fields__)


def _want(kind: type[_Settings], path: list[str], what: str) -> str:
    """What msgspec expected, for people: the choices of an enumeration, else the type and its limits."""
    named = [p for p in path if not p.isdigit()]
    if what.startswith("Invalid enum value") and named:
        table = _TABLES.get(named[-2], kind) if len(named) > 1 else kind
        return f"one of {', '.join(map(str, get_args(get_type_hints(table)[named[-1]])))}"
    return re.sub(r"^Expected (.*?)(, got .*)?$", r"\1", what).replace("`", "")
