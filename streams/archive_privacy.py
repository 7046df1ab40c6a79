"""What is taken out of an archive after 30 days: that a vehicle ran a duty, by which its operator's roster would name a driver. Said to people in ``docs/privacy.md``."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from streams.archive_files import Files

log = logging.getLogger(__name__)
#: Families whose messages tell of no vehicle of public transport. Raw envelopes of every other one are deleted, since what they hold cannot be taken out.
WITHOUT_VEHICLES = frozenset({"digitraffic", "gbfs", "datex2", "tampere_lights", "oulunliikenne", "liipi"})
#: Products that tell of single vehicles: fields that are emptied, beside ``vehicle_id``.
DUTY = {
    "vehicle-position": ("trip_id", "operating_day", "start_time", "odometer_m"),
    "stop-passage": ("trip_id", "operating_day", "start_time"),
    "emission-vehicle": (),
}
#: Fields that tell one trip from another.
TRIP = ("route_id", "direction_id", "operating_day", "start_time", "trip_id")


def protect(files: Files, before: str, stop: Callable[[], bool]) -> int:
    """Rewrite the files of days before one in which vehicles have names and duties; returns how many days were. Does nothing for products without vehicles, and for what is simulated through and through."""
    product = files.source.open_product
    if product not in DUTY:
        return 0
    old = [h for h in files.before(before) if not h.part.private and files.real(h)]
    done = 0
    for folder, found in groupby(old, lambda h: h.folder):
        secret = secrets.token_bytes(32)  # known to nobody after this day's files are written
        for h in found:
            told = files.store.about(h.path) | {"without": ["vehicle_id", *DUTY[product], "ce_id"]}
            try:
                files.rewrite([h], h.part._replace(private=True), told, partial(without_duties, product, secret), stop)
            except InterruptedError:
                return done
        log.info("%s: vehicles have no names any more", folder)
        done += 1
    return done


def without_duties(product: str, secret: bytes, rows: pa.Table) -> pa.Table:
    """Rows in which a vehicle bears a pseudonym that holds for one trip, so that neither the vehicle nor the chain of its trips is there; ``emission-vehicle``: no name at all."""
    columns = {n: rows.column(n) for n in rows.column_names}
    columns["vehicle_id"] = _pseudonyms(rows, secret) if DUTY[product] else pa.nulls(rows.num_rows, pa.string())
    for name in (*DUTY[product], "ce_id", "unreadable"):
        columns[name] = pa.nulls(rows.num_rows, rows.schema.field(name).type)
    return pa.table(columns, schema=rows.schema)


def _pseudonyms(rows: pa.Table, secret: bytes) -> pa.Array:
    """``trip/<16 hex digits>``. Where no trip is named, an hour takes its place; where no route is either, the vehicle has no name at all."""
    trip = [rows.column(n).to_pylist() for n in TRIP]
    hours = pc.cast(pc.floor_temporal(rows.column("event_time"), unit="hour"), pa.int64()).to_pylist()
    known: dict[tuple[object, ...], str | None] = {}
    out = []
    for vehicle, hour, *fields in zip(rows.column("vehicle_id").to_pylist(), hours, *trip, strict=True):
        named = any(f is not None for f in fields[2:])
        who = (vehicle, *fields, None if named else hour)
        if who not in known:
            text = "\0".join(map(repr, who)).encode()
            whole = vehicle is not None and (named or fields[0] is not None)
            known[who] = f"trip/{hashlib.blake2b(text, key=secret, digest_size=8).hexdigest()}" if whole else None
        out.append(known[who])
    return pa.array(out, pa.string())
