"""The AsyncAPI document: whole, without dangling references, valid by the official schema."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from models import asyncapi
from models.topics import PRODUCTS, settings


@dataclass(frozen=True)
class Town:
    name: str
    title: str
    licence: str = "CC-BY-4.0"
    attribution: tuple[str, ...] = ("© Town Transport",)


TOWNS = [Town("helsinki", "Helsinki"), Town("turku", "Turku")]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi.document(TOWNS, kafka_host="kafka.example:9092", http_host="gateway.example")


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_topic_of_every_city_is_there_with_the_settings_that_the_broker_gets(document: dict[str, Any]) -> None:
    for town in TOWNS:
        on_broker = {t.name: t for t in settings(town.name, {})}
        for product in PRODUCTS.values():
            kafka = document["channels"][f"{town.name}.{product.name}"]["bindings"]["kafka"]
            want = on_broker[kafka["topic"]]
            told = kafka["topicConfiguration"]
            assert kafka["partitions"] == want.partitions
            assert ",".join(told["cleanup.policy"]) == want.config["cleanup.policy"]
            assert str(told["retention.ms"]) == want.config["retention.ms"]
            assert str(told["max.message.bytes"]) == want.config["max.message.bytes"]


def test_no_reference_dangles(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 2 * len(PRODUCTS)
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]


def test_a_payload_is_the_product_s_schema_and_checks_records(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["feed-health"]
    record = {
        "feed": "hfp",
        "event_time": "2026-03-10T05:30:00.000Z",
        "state": "ok",
        "since": "2026-03-10T05:30:00.000Z",
        "messages_s": 0.0,
    }
    jsonschema.Draft202012Validator(schema).validate(record)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({**record, "messages_s": -1})


def test_the_official_schema_takes_it_and_refuses_a_broken_one(document: dict[str, Any], shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    spec = importlib.util.spec_from_file_location("standards_check", shared / "standards" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    path = tmp_path / "asyncapi.json"
    path.write_text(json.dumps(document))
    assert official.asyncapi(path) == []
    broken = json.loads(path.read_text())
    broken["channels"]["turku.parking"]["bindings"]["kafka"]["partitions"] = 0
    path.write_text(json.dumps(broken))
    assert official.asyncapi(path)
