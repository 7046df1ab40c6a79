"""The page of settings is what the code takes: nothing missing, nothing that cannot be set, and a meaning for each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from commands import settings
from connectors import cities
from models.errors import ConfigError
from streams.whatif import GROUPS, Parameters, changed, flat, is_parameter

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
PARAMETERS = [row for _, _, rows in settings.parameters() for row in rows]
KEYS = [row for _, _, rows in settings.city_keys() for row in rows]


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text("utf-8") == settings.markdown(), "run: python -m commands.settings > docs/settings.md"


def test_every_setting_says_what_it_means() -> None:
    assert [key for key, *_, meaning in PARAMETERS + KEYS if not meaning] == []


def test_a_number_says_its_unit_where_its_name_does() -> None:
    ends = (*settings.UNITS, "_s", "_m", "_mps", "_kmh", "_vph")
    assert [key for key, unit, *_ in PARAMETERS + KEYS if key.endswith(ends) and not unit] == []


def test_every_parameter_that_a_manifest_names_is_there_and_can_be_set() -> None:
    """But for what follows another one, and for tables, which a command line cannot tell."""
    listed = [key for key, *_ in PARAMETERS]
    assert len(set(listed)) == len(listed)
    values = {name: value for g in GROUPS for name, value in flat(Parameters().group(g), g)}
    assert set(values) - set(listed) == {"fuse.lateness_ms", "emissions.fleet", "emissions.mix", "emissions.powertrains"}
    assert changed(Parameters(), {key: values[key] for key in listed}) == Parameters()
    for key in set(values) - set(listed):
        with pytest.raises(ConfigError):
            changed(Parameters(), {key: 1})


def test_a_citys_key_is_no_parameter_and_the_page_has_those_of_every_city_file() -> None:
    listed = {key for key, *_ in KEYS}
    assert not [key for key in listed if is_parameter(key)]

    def keys(node: object, at: str) -> set[str]:
        if isinstance(node, msgspec.Struct):
            return {k for name in node.__struct_fields__ for k in keys(getattr(node, name), f"{at}.{name}".lstrip("."))}
        if isinstance(node, tuple) and node and isinstance(node[0], msgspec.Struct):
            inner = "feeds.<name>" if at == "feeds" else f"{at}.<number>"
            return {k for one in node for k in keys(one, inner)}
        return {at}

    for name in cities.names():
        assert keys(cities.load(name), "") - listed <= {"feeds.<name>.name"}
