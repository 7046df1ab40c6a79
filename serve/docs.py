"""Reference pages, a page a topic: fields with their units, a live example, the licence line, quality now, and consumers to copy. Generated from the schemas."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from models import schemas
from models.topics import PRODUCTS, Product
from models.units import unit_of
from serve.catalogue import Entry, Quality, description_of, licence_of, schema_org


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return "one of " + ", ".join(str(v) for v in field["enum"])
    if "const" in field:
        return str(field["const"])
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(field.get('items', {}))}"
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None or high is not None:
        kind += f" {'' if low is None else f'{low:g}'}–{'' if high is None else f'{high:g}'}"
    return kind


def fields(product: str) -> list[tuple[str, str, str, bool, str]]:
    """Name, kind, unit, whether it is always there, and meaning of each field; those inside of others with a dot."""
    out: list[tuple[str, str, str, bool, str]] = []

    def walk(schema: dict[str, Any], before: str, depth: int) -> None:
        needed = set(schema.get("required", ()))
        for name, field in schema.get("properties", {}).items():
            out.append((before + name, _kind(field), unit_of(before + name), name in needed, field.get("description", "")))
            if depth < 2 and field.get("properties"):
                walk(field, f"{before}{name}.", depth + 1)

    walk(schemas.schema(product), "", 0)
    return out


def consumers(product: Product, entry: Entry, *, base: str, kafka_host: str) -> list[tuple[str, str, str]]:
    """Title, language and text of programs to copy; each runs as it is."""
    topic = entry.topics[product.name]
    stream = f"{base}/api/v1/cities/{entry.name}/stream?product={product.name}"
    python = f'''import asyncio, json
from aiokafka import AIOKafkaConsumer

async def main():
    consumer = AIOKafkaConsumer("{topic}", bootstrap_servers="{kafka_host}", auto_offset_reset="earliest")
    await consumer.start()
    try:
        async for message in consumer:
            if message.value is not None:
                print(message.key.decode(), json.loads(message.value), flush=True)
    finally:
        await consumer.stop()

asyncio.run(main())
'''
    out = [
        ("Python (aiokafka)", "python", python),
        ("kcat", "sh", f"kcat -C -b {kafka_host} -t {topic} -o beginning -u\n"),
    ]
    parquet = f"{base}/api/v1/cities/{entry.name}/records/{product.name}.parquet"
    duckdb = f"""import urllib.request

import duckdb

urllib.request.urlretrieve("{parquet}", "{product.name}.parquet")
print(duckdb.sql("SELECT * FROM '{product.name}.parquet' LIMIT 10"))
"""
    out.append(("DuckDB, the newest records as Parquet", "python", duckdb))
    if product.name == "segment":
        return [*out, ("curl", "sh", f"curl --compressed '{base}{entry.rest['segment']}?limit=10'\n")]
    javascript = f'''const stream = new EventSource("{stream}&snapshot=true");
stream.addEventListener("{product.name}", (event) => console.log(event.lastEventId, JSON.parse(event.data)));
stream.addEventListener("gap", (event) => console.warn("records are missing", event.data));
'''
    return [
        *out,
        ("JavaScript (EventSource; it comes back by itself where it was)", "js", javascript),
        ("curl, events as they happen", "sh", f"curl -N '{stream}'\n"),
        ("curl, GeoJSON of now", "sh", f"curl --compressed '{base}{entry.rest[product.name]}?limit=10'\n"),
    ]


def _page(title: str, body: str, data: Sequence[dict[str, Any]] = ()) -> str:
    # "<" would end the script element early
    scripts = "".join(
        f'<script type="application/ld+json">{msgspec.json.encode(d).decode().replace("<", chr(92) + "u003c")}</script>\n' for d in data
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="/favicon.ico" type="image/svg+xml">
<link rel="stylesheet" href="/assets/docs.css">
{scripts}</head>
<body>
<header><a href="/">map</a> <a href="/docs">topics</a> <a href="/api/v1/openapi.json">OpenAPI</a> <a href="/api/v1/asyncapi.json">AsyncAPI</a>
<a href="/catalog.ttl">catalogue (Turtle)</a> <a href="/catalog.jsonld">catalogue (JSON-LD)</a></header>
<main>
<h1>{escape(title)}</h1>
{body}</main>
</body>
</html>
"""


def _row(*cells: str, tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>\n"


def _told(q: Quality) -> str:
    parts = [f"{q.records:,} keys held"]
    if q.timeliness_s is not None:
        parts.append(f"95 % arrive within {q.timeliness_s:.1f} s")
    if q.availability is not None:
        parts.append(f"{q.availability:.0%} of the feeds in order")
    if q.completeness is not None:
        parts.append(f"{q.completeness:.1%} complete")
    return ", ".join(parts)


def index(entries: Sequence[Entry], *, base: str, kafka_host: str) -> str:
    """The page of all topics."""
    rows = "".join(
        _row(
            f'<a href="/docs/{p.name}">{p.name}</a>',
            escape(p.title),
            f"<code>{escape(p.key)}</code>",
            escape(p.cadence),
            "for ever" if p.retention_ms < 0 else f"{p.retention_ms / 86_400_000:g} d",
        )
        for p in PRODUCTS.values()
    )
    towns = "".join(
        _row(
            escape(e.title),
            f"<code>mobility.{escape(e.name)}.&lt;product&gt;.v1</code>",
            escape(e.licence),
            escape("; ".join(e.attribution)),
            f'<a href="/catalog/{escape(e.name)}.ttl">catalogue</a>',
        )
        for e in entries
    )
    body = f"""<p>One schema a product, the same in every city; one Kafka topic a city and product. Broker: <code>{escape(kafka_host)}</code>.
Values are JSON, one record a message; times are RFC 3339 UTC; field names carry their units; what is absent is not known, zero means zero.</p>
<h2>Topics</h2>
<table>{_row("product", "what", "key", "cadence", "kept", tag="th")}{rows}</table>
<h2>Cities</h2>
<table>{_row("city", "topics", "licence", "to be printed", "", tag="th")}{towns}</table>
<h2>Quality</h2>
<dl><dt id="timeliness">timeliness</dt><dd>seconds from an event to its arrival, 95th percentile of the slowest feed behind the product</dd>
<dt id="availability">availability</dt><dd>share of those feeds that are in order</dd>
<dt id="completeness">completeness</dt><dd>share of messages that were accepted; of segment-state: share of segments with a measured state</dd></dl>
<h2>Event streams</h2>
<p><code>{escape(base)}/api/v1/cities/&lt;city&gt;/stream</code> (server-sent events) and <code>…/ws</code> (WebSocket); of several cities: <code>/api/v1/stream?city=a,b</code>.
Filters: <code>product</code>, <code>bbox</code>, <code>route</code>, <code>min_confidence</code>. <code>snapshot=true</code>: the latest record of every key first.
The id of an event is a place in the log: whoever sends it as <code>Last-Event-ID</code> goes on after it, without loss or repeat as long as Kafka keeps the records;
what it no longer keeps is told as a <code>gap</code>. A client that reads too slowly gets <code>overflow</code> and is cut.</p>
"""
    return _page("Open topics", body)


def page(product: Product, entry: Entry, cities: Sequence[str], example: bytes | None, *, base: str, kafka_host: str) -> str:
    """The page of one product. ``example``: a record as published just now; None when there is none yet."""
    rows = "".join(
        _row(f"<code>{escape(name)}</code>", escape(kind), escape(unit), "always" if always else "", escape(text))
        for name, kind, unit, always, text in fields(product.name)
    )
    programs = "".join(
        f'<h3>{escape(title)}</h3>\n<pre><code class="{kind}">{escape(text)}</code></pre>\n'
        for title, kind, text in consumers(product, entry, base=base, kafka_host=kafka_host)
    )
    others = " ".join(f'<a href="/docs/{product.name}?city={escape(c)}">{escape(c)}</a>' for c in cities)
    shown = escape(msgspec.json.format(example, indent=2).decode()) if example is not None else "no record has come yet"
    body = f"""<p>{escape(description_of(product))}</p>
<p>Cities: {others}</p>
<dl><dt>topic</dt><dd><code>{escape(entry.topics[product.name])}</code></dd>
<dt>key</dt><dd><code>{escape(product.key)}</code></dd>
<dt>cleanup, kept</dt><dd>{escape(product.cleanup)}, {"for ever" if product.retention_ms < 0 else f"{product.retention_ms / 86_400_000:g} days"}</dd>
<dt>schema</dt><dd><a href="/api/v1/schemas/{product.name}">{escape(schemas.file_name(product))}</a>; fields are only ever added within v{product.major}</dd>
<dt>licence</dt><dd>{escape(licence_of(entry, product.name))}</dd>
<dt>to be printed</dt><dd>{escape("; ".join(entry.attribution))}</dd>
<dt>quality now</dt><dd>{escape(_told(entry.quality.get(product.name, Quality())))}</dd></dl>
<h2>Fields</h2>
<table>{_row("field", "kind", "unit", "", "meaning", tag="th")}{rows}</table>
<h2>A record of now</h2>
<pre><code class="json">{shown}</code></pre>
<h2>Consumers to copy</h2>
{programs}"""
    return _page(f"{product.title}, {entry.title}", body, [schema_org(entry, product, base=base, kafka_host=kafka_host)])


def markdown() -> str:
    """The tables of all topics as the file ``docs/topics.md`` holds them."""
    out = [
        "# Open topics",
        "",
        "Generated from `models/records.py` and `models/topics.py`: `python -m serve.docs > docs/topics.md`. The gateway shows the same under `/docs`, with live examples,",
        "quality now and programs to copy. How to follow a stream: [topics-streams.md](topics-streams.md).",
        "",
        "Topic names: `mobility.<city>.<product>.v<major>`. Values are JSON, one record a message; what is absent is not known, zero means zero. Within a major version fields",
        "are only ever added.",
        "",
    ]
    for product in PRODUCTS.values():
        kept = "for ever" if product.retention_ms < 0 else f"{product.retention_ms / 86_400_000:g} days"
        out += [
            f"## {product.name}",
            "",
            f"{description_of(product)} Key: `{product.key}`. Cleanup: {product.cleanup}; kept {kept}. Schema: [{schemas.file_name(product)}](schemas/{schemas.file_name(product)}).",
            "",
            "| field | kind | unit | always | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, kind, unit, always, text in fields(product.name):
            cells = (f"`{name}`", kind, unit, "yes" if always else "", text)
            out.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
        out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
