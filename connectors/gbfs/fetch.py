"""GBFS's side of the wire: the documents of the city file, and those that a discovery document (``gbfs.json``) names."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt, check_url
from models.errors import ConfigError

_ACCEPT = {"Accept": "application/json"}
#: Documents that are asked for, of those a system has, and how often at least it makes sense, seconds: places hardly change.
_WANTED = {"station_information": 3600.0, "station_status": 0.0}
#: A document of more names is no discovery.
MOST_NAMES = 200


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, asking for JSON.

    Raises:
        ConfigError: MQTT: GBFS is polled.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: GBFS is polled over HTTP")
    return None, tuple(msgspec.structs.replace(h, headers=_ACCEPT | h.headers) for h in feed.http)


def discover(settings: Http, feed: FeedSettings, body: bytes) -> tuple[tuple[Http, ...], tuple[str, ...]] | None:
    """The documents that a discovery document names, as they are to be asked for, and what is wrong with others. None: it is no discovery document.

    Addresses are taken from the host of the discovery document and from ``hosts`` of the city file, never from TLS down to plain HTTP. Whether they
    may be called at all is checked for each connection, as for any other (``connectors/addresses.py``). ``ttl`` is kept to by ``cadence_s``.
    """
    named = _named(body)
    if named is None:
        return None
    here = urlsplit(settings.url)
    hosts = {here.hostname, *feed.hosts}
    wanted: list[Http] = []
    wrong: list[str] = []
    for name, least_s in _WANTED.items():
        url = named.get(name)
        if url is None:
            continue
        try:
            check_url(url, ("https",) if here.scheme == "https" else ("http", "https"), "gbfs.json", name)
        except ConfigError:
            wrong.append(f"{name}: an address that cannot be used")
            continue
        host = urlsplit(url).hostname
        if host not in hosts:
            wrong.append(f"{name}: {str(host)[:100]} is not in hosts of the city file")
            continue
        own = host == here.hostname
        wanted.append(
            msgspec.structs.replace(
                settings,
                url=url,
                every_s=max(feed.cadence_s, least_s),
                headers_env=settings.headers_env if own else {},
                username_env=settings.username_env if own else None,
                password_env=settings.password_env if own else None,
            )
        )
    return tuple(wanted), tuple(wrong)


def _named(body: bytes) -> dict[str, str] | None:
    """Name and address of each document: GBFS 3 has one list, before that one a language: the first is taken."""
    try:
        data: Any = msgspec.json.decode(body, type=dict[str, Any]).get("data")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(data, dict) and "feeds" not in data:
        data = next((v for v in data.values() if isinstance(v, dict) and "feeds" in v), None)
    feeds = data.get("feeds") if isinstance(data, dict) else None
    if not isinstance(feeds, list) or len(feeds) > MOST_NAMES:
        return None
    pairs = [(f.get("name"), f.get("url")) for f in feeds if isinstance(f, dict)]
    return {name: url for name, url in pairs if isinstance(name, str) and isinstance(url, str)}
