"""Each family of connectors has a README that says where, under which licence, with which manners, what goes where and what is odd; and its tables name fields that exist."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import connectors
from connectors.columns import SensorColumns, Site, Trip, VehicleColumns
from connectors.families import PARSERS
from models.records import NamedTrip
from models.topics import PRODUCTS

FOLDER = Path(connectors.__file__).parent
#: What must be told -> how it may be called.
SECTIONS = {
    "address": r"\*\*(Address|Addresses|Address form)\*\*|`https?://|`mqtts?://",
    "licence": r"\*\*Licence\*\*",
    "manners": r"\*\*Manners\*\*",
    "quirks": r"(?m)^Traps: ",
    "fields": r"(?m)^\| (column|field|product|sensor)",
}


def known() -> set[str]:
    """Products, and fields of their records and of the columns that parsers fill."""
    names = {f.name for columns in (VehicleColumns, SensorColumns) for f in fields(columns)}
    for struct in (Trip, Site, NamedTrip, *(p.record for p in PRODUCTS.values())):
        names |= set(struct.__struct_fields__)
    return names | set(PRODUCTS)


def named(text: str) -> list[str]:
    """Names in the first cells of tables of columns, fields and products."""
    found, reading = [], False
    for line in text.splitlines():
        if not line.startswith("|"):
            reading = False
            continue
        first = line.split("|")[1].strip()
        if re.match(r"(column|field|product)\b", first):
            reading = True
        elif reading:
            found += re.findall(r"`([^`]+)`", first)
    return found


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_a_readme_tells_address_licence_manners_fields_and_quirks(family: str) -> None:
    text = (FOLDER / family / "README.md").read_text("utf-8")
    assert [what for what, pattern in SECTIONS.items() if not re.search(pattern, text)] == []


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_the_fields_of_a_readme_exist(family: str) -> None:
    names = named((FOLDER / family / "README.md").read_text("utf-8"))
    assert len(names) >= 3
    there = known()
    assert [n for n in names if not set(n.split(".")) <= there] == []


def test_a_field_that_does_not_exist_is_found() -> None:
    assert named("| column | from |\n| --- | --- |\n| `speed_mps`, `sped` | x |\n\n| `other` |") == ["speed_mps", "sped"]
    assert "sped" not in known()


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_the_city_files_ask_at_addresses_that_the_readme_names(family: str) -> None:
    text = (FOLDER / family / "README.md").read_text("utf-8")
    hosts = {m for toml in (FOLDER / "cities").glob("*.toml") for m in _hosts(toml.read_text("utf-8"), family)}
    assert sorted(h for h in hosts if h not in text) == []


def _hosts(toml: str, family: str) -> list[str]:
    feeds = [f for f in tomllib.loads(toml).get("feeds", {}).values() if f["family"] == family]
    urls = [h["url"] for f in feeds for h in (*f.get("http", ()), *([f["mqtt"]] if "mqtt" in f else []))]
    return [urlsplit(url).hostname or "" for url in urls]
