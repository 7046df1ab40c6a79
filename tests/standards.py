"""The official validators beside the repo, over bytes and objects: each gives a list of complaints, empty when there is nothing to complain of."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any


class Standards:
    """``../shared/standards/check.py``, whose validators read files."""

    def __init__(self, shared: Path) -> None:
        spec = importlib.util.spec_from_file_location("standards_check", shared / "standards" / "check.py")
        assert spec is not None
        assert spec.loader is not None
        self.check = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.check)

    def _of(self, validator: Any, data: bytes, name: str, *more: Any) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            found: list[str] = validator(path, *more)
            return found

    def datex2(self, data: bytes) -> list[str]:
        """DATEX II 3.7 by its XSD."""
        return self._of(self.check.datex2, data, "publication.xml")

    def gtfs_rt(self, data: bytes, *, trains: bool = False) -> list[str]:
        """GTFS-Realtime by the community's rules. ``trains``: the feed has vehicles that may be faster than a bus, which is only a warning there."""
        found = self._of(self.check.gtfs_rt, data, "feed.pb")
        return [c for c in found if not (trains and c.startswith("W004"))]

    def fiware(self, entity: dict[str, Any]) -> list[str]:
        """TrafficFlowObserved, key-values."""
        return self._of(self.check.fiware, json.dumps(entity).encode(), "entity.json")

    def environment_observed(self, entity: dict[str, Any]) -> list[str]:
        """EnvironmentObserved, key-values: its own schema adds to the commons only its type and references that ours does not have."""
        from referencing import Registry, Resource
        from referencing.jsonschema import DRAFT202012

        common = "https://smart-data-models.github.io/data-models/common-schema.json"
        document = self.check.load_json(self.check.HERE / "fiware-trafficflowobserved" / "common-schema.json")
        registry = Registry().with_resource(common, Resource.from_contents(document, default_specification=DRAFT202012))
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [{"$ref": f"{common}#/definitions/{name}"} for name in ("GSMA-Commons", "Location-Commons")],
            "properties": {"type": {"const": "EnvironmentObserved"}},
            "required": ["id", "type"],
        }
        found: list[str] = self.check.complaints(schema, entity, registry)
        return found

    def mobility_dcat(self, data: bytes, form: str = "ttl") -> list[str]:
        """mobilityDCAT-AP over DCAT-AP by their SHACL shapes; Turtle or JSON-LD."""
        return self._of(self.check.mobilitydcat, data, f"catalogue.{form}")

    def asyncapi(self, document: Any) -> list[str]:
        """AsyncAPI 3 with its bindings."""
        return self._of(self.check.asyncapi, json.dumps(document).encode(), "asyncapi.json")

    def cloudevent_kafka(self, message: dict[str, Any]) -> list[str]:
        """CloudEvents on Kafka, binary mode."""
        return self._of(self.check.cloudevent_kafka, json.dumps(message).encode(), "message.json")

    def ogc(self, document: Any, kind: str) -> list[str]:
        """OGC API Features 1: landingPage, confClasses, collections, featureCollectionGeoJSON."""
        return self._of(self.check.ogc, json.dumps(document).encode(), f"{kind}.json", kind)

    def dataset(self, document: Any) -> list[str]:
        """schema.org Dataset by what dataset search asks for."""
        return self._of(self.check.schema_org_dataset, json.dumps(document).encode(), "dataset.json")

    def citation(self, data: bytes) -> list[str]:
        """CITATION.cff 1.2.0."""
        return self._of(self.check.citation, data, "CITATION.cff")
