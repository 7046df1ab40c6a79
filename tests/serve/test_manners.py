"""Manners that every answer under ``/api`` and ``/catalog`` has, asked for one by one: tag, cross-origin, codings, limits, problems."""

from __future__ import annotations

import gzip
import re
from typing import Any

import cramjam
import pytest
from aiohttp import ClientSession

from serve import openapi
from serve.http import MIN_GZIP
from tests.serve.test_describe import sample

#: No end, or nothing without an archive or evidence.
PATHS = [
    re.sub(r"\{(\w+)\}", lambda m: sample(m[1], ""), path)
    for path in openapi.PATHS
    if path.startswith(("/api/", "/catalog")) and not re.search(r"/(stream|ws|explain)$|/history", path)
]
#: When an answer was made is no part of its tag.
TIMES = re.compile(rb'"timeStamp":"[^"]*"')


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_has_its_manners(fed: Any, start: Any, path: str) -> None:
    client = await start(per_minute=100)
    async with ClientSession(auto_decompress=False) as raw:
        url = client.make_url(path)
        plain = await raw.get(url, headers={"Accept-Encoding": "identity", "Origin": "https://a.example"})
        data = await plain.read()
        assert plain.status == 200, data
        assert plain.headers["Access-Control-Allow-Origin"] == "*"
        assert "ETag" in plain.headers["Access-Control-Expose-Headers"]
        assert plain.headers["RateLimit-Limit"] == "100"
        assert 0 <= int(plain.headers["RateLimit-Remaining"]) < 100
        assert int(plain.headers["RateLimit-Reset"]) >= 0
        assert "Content-Encoding" not in plain.headers
        tag = plain.headers["ETag"]
        again = await raw.get(url, headers={"Accept-Encoding": "identity", "If-None-Match": tag})
        if again.headers["ETag"] == tag:  # else something in it has changed since: a clock
            assert (again.status, await again.read()) == (304, b"")
        for coding, unpack in (("gzip", gzip.decompress), ("zstd", lambda b: bytes(cramjam.zstd.decompress(b)))):
            answer = await raw.get(url, headers={"Accept-Encoding": f"{coding}, identity;q=0.5"})
            packed = await answer.read()
            if len(data) >= MIN_GZIP and not path.endswith(".parquet"):
                assert answer.headers["Content-Encoding"] == coding
                assert "Accept-Encoding" in answer.headers["Vary"]
                assert unpack(packed)
                if answer.headers["ETag"] == tag:
                    assert TIMES.sub(b"", unpack(packed)) == TIMES.sub(b"", data)
            refused = await raw.get(url, headers={"Accept-Encoding": f"{coding};q=0"})
            assert "Content-Encoding" not in refused.headers


@pytest.mark.parametrize("path", PATHS)
async def test_a_question_that_is_not_understood_is_a_problem_everywhere(fed: Any, start: Any, path: str) -> None:
    client = await start()
    answer = await client.get(path, params={"nonsense": "1"})
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    body = await answer.json()
    assert (body["status"], body["type"], "nonsense" in body["detail"]) == (400, "about:blank", True)
    asked = await client.options(path, headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
    assert asked.status == 204
    assert "If-None-Match" in asked.headers["Access-Control-Allow-Headers"]
