"""City files are checked whole, and errors say where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.cities import FOLDER, load, names
from models.errors import ConfigError

CANARY = "hunter2-canary"


@pytest.mark.parametrize("name", names())
def test_every_city_that_comes_with_the_project_loads_and_is_short(name: str) -> None:
    city = load(name)
    assert city.name == name
    assert city.attribution
    assert len((FOLDER / f"{name}.toml").read_text("utf-8").splitlines()) <= 100


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("feeds.hfp.mqtt.prot", 1, "feeds.hfp.mqtt.prot = 1, expected no such key"),
        ("feeds.hfp.mqtt.topcs", ["a"], "did you mean topics?"),
        ("feeds.hfp.mqtt.url", "http://mqtt.hsl.fi", "expected mqtt://, mqtts://, ws://, wss:// and a host"),
        ("feeds.hfp.mqtt.url", "mqtt://h:99999", "port 1-65535"),
        ("feeds.hfp.mqtt.url", "mqtt://h:0", "port 1-65535"),
        ("feeds.hfp.mqtt.topics", ["/hfp/#/vp"], "MQTT topic filter"),
        ("feeds.hfp.mqtt.topics", [], "feeds.hfp.mqtt.topics = [], expected"),
        ("feeds.hfp.partitions", "4", "feeds.hfp.partitions = '4', expected int"),
        ("feeds.hfp.partitions", 0, "expected int >= 1"),
        ("feeds.hfp.family", "hpf", "expected one of hfp, gtfs_realtime, digitraffic"),
        ("feeds.hfp.mqtt.version", "4", "expected one of 3.1.1, 5"),
        ("feeds.gtfs_rt.partitions", 2, "one envelope"),
        ("feeds.gtfs_rt.secondary_to", "hpf", "did you mean hfp?"),
        ("feeds.tms.http.0.evry_s", 60, "did you mean every_s?"),
        ("feeds.tms.http.0.every_s", -1, "feeds.tms.http.0.every_s = -1, expected"),
        ("feeds.tms.http.0.url", "ftp://tie.digitraffic.fi", "https"),
        ("feeds.tms.http.0.max_mb", 21, "expected float <= 20"),
        ("feeds.Hfp", {"family": "hfp"}, "a name of a-z"),
        ("timezone", "Europe/Helsinky", "an IANA time zone"),
        ("box.south", 70, "a latitude below box.north"),
        ("box.west", 26.0, "a longitude below box.east"),
        ("box.north", 95, "expected float <= 90"),
        ("crs", "3067", "EPSG:<code>"),
        ("titel", "x", "did you mean title?"),
        ("attribution", [], "attribution = [], expected"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_was_expected(key: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as e:
        load("helsinki", {key: value})
    assert str(e.value).startswith("helsinki.toml: ")
    assert says in str(e.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feeds.hfp.mqtt.url", f"mqtts://user:{CANARY}@mqtt.hsl.fi"),
        ("feeds.hfp.mqtt.password_env", CANARY),
        ("feeds.tms.http.0.headers", {"Authorization": CANARY}),
        ("feeds.tms.http.0.headers", {"digitransit-subscription-key": CANARY}),
        ("feeds.tms.http.0.headers_env", {"Authorization": CANARY}),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_shown(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as e:
        load("helsinki", {key: value})
    assert CANARY not in str(e.value)


def test_an_unknown_city_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="did you mean helsinki"):
        load("helsinky")


def test_a_feed_named_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text((FOLDER / "helsinki.toml").read_text("utf-8") + '\n[feeds.hfp]\nfamily = "hfp"\n', "utf-8")
    with pytest.raises(ConfigError, match="each key once"):
        load(file)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text((FOLDER / "helsinki.toml").read_text("utf-8").replace('title = "Helsinki"\n', ""), "utf-8")
    with pytest.raises(ConfigError, match=r"title = None, expected a value: the key is missing"):
        load(file)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="a file that can be read"):
        load("nowhere/x.toml")
