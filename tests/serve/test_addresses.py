"""Every address that the documents name is one that the gateway answers."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp.test_utils import make_mocked_request

from serve.gateway import make_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "deploy").glob("*.md")),
]
ADDRESS = re.compile(r"(?<![\w/.])(?:http://127\.0\.0\.1:8080)?(/(?:api/v1|catalog)[\w/<>{}.-]*)")
#: What stands for a part that the reader fills in.
FILLED = {
    "<city>": "town",
    "{city}": "town",
    "helsinki": "town",
    "SEGMENT": "w1",
    "{segment_id}": "w1",
    "<id>": "w1",
    "{z}": "12",
    "{x}": "1",
    "{y}": "1",
}


def named() -> set[tuple[str, str]]:
    return {(p.name, m[1].rstrip("./")) for p in PAGES if p.is_file() for m in ADDRESS.finditer(p.read_text(encoding="utf-8"))}


async def test_every_address_in_the_documents_is_answered(town: ModuleType) -> None:
    app = make_app([town.Town()])
    found = named()
    assert len(found) > 10
    unknown = []
    for page, address in sorted(found):
        path = address
        for word, value in FILLED.items():
            path = path.replace(word, value)
        match = await app.router.resolve(make_mocked_request("GET", path))
        begins = any((r.canonical.replace("{city}", "town")).startswith(path + "/") for r in app.router.resources())
        if match.http_exception is not None and not begins:
            unknown.append(f"{page}: {address}")
    assert unknown == []


@pytest.mark.parametrize("gone", ["/api/v1/indicators", "/api/v1/cities/town/nothing"])
async def test_an_address_that_is_not_there_would_be_seen(town: ModuleType, gone: str) -> None:
    match = await make_app([town.Town()]).router.resolve(make_mocked_request("GET", gone))
    assert match.http_exception is not None
