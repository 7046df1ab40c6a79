"""What is said of the data is what was measured and what the city files say; the citation is one that machines read."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from commands import data_card
from connectors import cities
from tests.standards import Standards

ROOT = Path(__file__).resolve().parents[1]
CARD = (ROOT / "docs" / "data-card.md").read_text("utf-8")


def test_the_tables_of_the_card_are_those_of_the_accuracy_pages_and_the_city_files() -> None:
    assert data_card.filled(CARD) == CARD, "run: python -m commands.data_card"


def test_another_figure_in_the_card_is_noticed() -> None:
    figure = re.search(r"wMAE everywhere, km/h \| 5.00 \| 4.10 \| (\d\.\d\d)", CARD)
    assert figure is not None
    other = CARD.replace(figure[0], figure[0][:-1] + ("1" if figure[0][-1] != "1" else "2"))
    assert data_card.filled(other) != other


def test_every_source_of_every_city_of_the_launch_has_its_licence_and_line_there() -> None:
    table = CARD.partition("<!-- sources: begin -->")[2]
    for name in data_card.LAUNCH:
        city = cities.load(name)
        for feed in city.feeds:
            line = feed.attribution or " · ".join(city.attribution)
            assert any(f"| {feed.licence or city.licence} | {line} |" in row and feed.name in row for row in table.splitlines())


def test_every_link_of_the_card_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", CARD)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def citation() -> dict[str, object]:
    """Dates as text, which is what the schema wants."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    found: dict[str, object] = yaml.load((ROOT / "CITATION.cff").read_text("utf-8"), Loader)
    return found


def test_the_citation_says_what_the_package_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    told = citation()
    assert (told["version"], told["license"]) == (project["version"], project["license"])
    assert [a["name"] for a in told["authors"]] == [a["name"] for a in project["authors"]]  # type: ignore[attr-defined]


def test_the_citation_keeps_the_official_schema(standards: Standards, tmp_path: Path) -> None:
    assert standards.citation((ROOT / "CITATION.cff").read_bytes()) == []
    broken = {**citation(), "license": "no-such-licence"}
    assert standards.citation(json.dumps(broken).encode()), "a broken one is noticed"


@pytest.mark.parametrize("key", ["cff-version", "message", "title", "authors"])
def test_the_citation_has_what_cff_requires(key: str) -> None:
    assert citation()[key]
