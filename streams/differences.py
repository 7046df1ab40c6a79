"""What differs between two replays: product by product, field by field, street by street.

Rows of two runs belong together when key, time and feed are the same. A product whose files are the same bytes is not read; of the others a slice of time at a time is in memory.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.archive import time_field
from models.emissions.rates import OUTPUTS
from models.errors import ConfigError
from models.topics import PRODUCTS
from models.units import unit_of
from streams.manifest import NAME as MANIFEST

#: Rows that are compared at a time, about.
SLICE_ROWS = 400_000
#: Products whose rows are of streets, for the map.
OF_STREETS = ("segment-state", "emission-segment")
#: Beside its key these fields say which row a row is.
_WHICH = ("window_start", "window_end", "status", "event_time", "feed")
#: Products that have no topic of their own: key and time.
_OTHERS = {"dead-letter": ("topic:partition:offset:index", "ingest_time"), "late": ("topic:partition:offset:index", "ingest_time")}
#: Fields whose change is none of what is told.
_ASIDE = ("revision", "simulated")
#: Of a quantity with bounds, the part that is shown on maps and in tables.
_BOUNDS = (".lo95", ".hi95")


class Field(msgspec.Struct, kw_only=True):
    """How a field changed, over the rows that both runs have."""

    name: str  #: with a dot where it is inside another
    unit: str
    changed: int  #: rows
    numbers: int = 0  #: rows in which both runs have a number
    median: float | None = None  #: size of the change where there is one, in the unit; to 1 %
    p95: float | None = None  #: the same
    mean_a: float | None = None  #: over the rows in which both have a number
    mean_b: float | None = None


class Product(msgspec.Struct, kw_only=True):
    """How a product changed."""

    product: str
    rows_a: int
    rows_b: int
    both: int
    only_a: int
    only_b: int
    changed: int  #: of the rows that both have
    fields: list[Field] = []  #: those that changed

    @property
    def same(self) -> bool:
        return not (self.only_a or self.only_b or self.changed)


class Total(msgspec.Struct, kw_only=True):
    """A sum over the whole city and all final windows."""

    name: str
    unit: str
    a: float
    b: float


class Streets(msgspec.Struct, kw_only=True):
    """Means of a field of each street, over the rows that both runs have and in which both have a number."""

    product: str
    field: str
    unit: str
    means: dict[str, tuple[float, float]]  #: of those that differ, by segment_id


class Differences(msgspec.Struct, kw_only=True):
    """Two runs beside each other."""

    a: str
    b: str
    city: str
    simulated: bool
    inputs: dict[str, tuple[Any, Any]]  #: of the manifest, what differs: parameters by name, and other parts
    products: list[Product]
    totals: list[Total]
    files: list[str]  #: other files that differ
    streets: list[Streets] = []


@dataclass
class Sizes:
    """Sizes of changes, in bins of 1 %: as exact for a day of a city as for a minute, in the same memory."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, sizes: NDArray[np.float64]) -> None:
        bins, n = np.unique(np.round(np.log(sizes) * 100).astype(np.int64), return_counts=True)
        for b, k in zip(bins.tolist(), n.tolist(), strict=True):
            self.counts[b] = self.counts.get(b, 0) + k

    def quantile(self, q: float) -> float | None:
        """
        >>> s = Sizes(); s.add(np.arange(1.0, 101.0)); round(s.quantile(0.5)), round(s.quantile(0.95)), Sizes().quantile(0.5)
        (50, 95, None)
        """
        left = q * sum(self.counts.values())
        for b in sorted(self.counts):
            left -= self.counts[b]
            if left <= 0:
                return float(np.exp(b / 100))
        return None


@dataclass
class _Sums:
    """One field's."""

    changed: int = 0
    numbers: int = 0
    sum_a: float = 0.0
    sum_b: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    streets: list[pd.DataFrame] = field(default_factory=list)

    def field(self, name: str) -> Field:
        out = Field(name=name, unit=unit_of(name), changed=self.changed, numbers=self.numbers)
        if self.numbers:
            out.median, out.p95 = self.sizes.quantile(0.5), self.sizes.quantile(0.95)
            out.mean_a, out.mean_b = self.sum_a / self.numbers, self.sum_b / self.numbers
        return out


def compare(a: Path, b: Path) -> Differences:
    """Two folders of ``tilannekuva replay --to``.

    Raises:
        ConfigError: a folder is none, or the runs are of different cities.
    """
    made = [_made(p) for p in (a, b)]
    cities = [str(m["city"]["name"]) for m in made]
    if cities[0] != cities[1]:
        raise ConfigError("command line", "RUN", f"{a} {b}", f"two runs of one city; these are of {cities[0]} and {cities[1]}")
    names = [{p.name for p in run.iterdir() if p.is_file()} - {MANIFEST, "summary.json"} for run in (a, b)]
    products, streets = [], []
    for name in sorted(n for n in names[0] | names[1] if n.endswith(".parquet")):
        product, of_streets = _product(name.removesuffix(".parquet"), a / name, b / name)
        products.append(product)
        streets += of_streets
    others = sorted(n for n in names[0] | names[1] if not n.endswith(".parquet"))
    return Differences(
        a=str(a), b=str(b), city=cities[0], simulated=any(_simulated(p) for p in (a, b)), inputs=_inputs(*made), products=products, totals=_totals(a, b),
        files=[n for n in others if not _same_bytes(a / n, b / n)], streets=streets,
    )  # fmt: skip


def _made(run: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError(
            "command line", "RUN", str(run), f"a folder that `tilannekuva replay --to` has written, with its {MANIFEST}"
        ) from e
    return found


def _simulated(run: Path) -> bool:
    return bool(json.loads((run / "summary.json").read_text("utf-8"))["simulated"])


def _same_bytes(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False)


def _inputs(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What went in and differs."""
    parts = [
        {**m["parameters"], **{k: m.get(k) for k in ("profile", "inputs", "network", "city", "code", "factor_set", "options", "packages")}}
        for m in (a, b)
    ]
    return {k: (parts[0].get(k), parts[1].get(k)) for k in sorted({*parts[0], *parts[1]}) if parts[0].get(k) != parts[1].get(k)}


# ------------------------------------------------------------------------------------------------------------------------- rows


def _product(name: str, a: Path, b: Path) -> tuple[Product, list[Streets]]:
    rows = [pq.read_metadata(p).num_rows if p.exists() else 0 for p in (a, b)]
    out = Product(product=name, rows_a=rows[0], rows_b=rows[1], both=0, only_a=0, only_b=0, changed=0)
    if _same_bytes(a, b):
        out.both = rows[0]
        return out, []
    sums: dict[str, _Sums] = {}
    key = _OTHERS[name][0] if name in _OTHERS else PRODUCTS[name].key
    for left, right in _slices(a, b, _OTHERS[name][1] if name in _OTHERS else time_field(name)):
        _compare(out, sums, left, right, [*key.split(":"), *_WHICH])
    out.fields = [s.field(n) for n, s in sums.items() if s.changed]
    streets = [_of_street(name, n, s) for n, s in sums.items() if s.streets and s.changed]
    return out, [s for s in streets if s.means]


def _slices(a: Path, b: Path, time: str | None) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of both files, a slice of time after the other."""
    files = [ds.dataset(p) if p.exists() else None for p in (a, b)]
    schema = next(f.schema for f in files if f is not None)
    if time is None:
        cuts: list[Any] = [None]
    else:
        ends = [pc.min_max(f.to_table(columns=[time]).column(time)) for f in files if f is not None and f.count_rows()]
        times = [e[side].cast(pa.int64()).as_py() for e in ends for side in ("min", "max")]
        n = sum(f.count_rows() for f in files if f is not None) // (2 * SLICE_ROWS) + 1
        edges = np.linspace(min(times, default=0), max(times, default=0) + 1, n + 1).astype(np.int64).tolist()
        at = [pa.scalar(e, pa.int64()).cast(schema.field(time).type) for e in edges]
        cuts = [(ds.field(time) >= lo) & (ds.field(time) < hi) for lo, hi in pairwise(at)]
    for cut in cuts:
        yield tuple(schema.empty_table() if f is None else f.to_table(filter=cut) for f in files)


def _flat(found: pa.Table) -> pd.DataFrame:
    """Columns of single values: structs by their parts, lists as text."""
    while any(pa.types.is_struct(f.type) for f in found.schema):
        found = found.flatten()
    for k, f in enumerate(found.schema):
        if pa.types.is_list(f.type):
            text = [None if v is None else msgspec.json.encode(v).decode() for v in found.column(k).to_pylist()]
            found = found.set_column(k, f.name, pa.array(text, pa.string()))
    return found.to_pandas()


def _compare(out: Product, sums: dict[str, _Sums], a: pa.Table, b: pa.Table, wanted: list[str]) -> None:
    frames = [_flat(t) for t in (a, b)]
    which = [w for w in dict.fromkeys(wanted) if w in frames[0].columns]
    for f in frames:  # what is there twice is told apart by its order
        f["#"] = f.groupby(which, dropna=False, sort=False).cumcount()
    both = frames[0].merge(frames[1], on=[*which, "#"], how="outer", suffixes=(" a", " b"), indicator=True)
    out.only_a += int((both["_merge"] == "left_only").sum())
    out.only_b += int((both["_merge"] == "right_only").sum())
    both = both[both["_merge"] == "both"]
    out.both += len(both)
    any_changed = np.zeros(len(both), bool)
    for name in frames[0].columns:
        if name not in which and name != "#":
            s = sums.setdefault(name, _Sums())
            any_changed |= _field(s, both, name, of_streets=out.product in OF_STREETS)
    out.changed += int(any_changed.sum())


def _field(s: _Sums, both: pd.DataFrame, name: str, *, of_streets: bool) -> NDArray[np.bool_]:
    """Where a field differs."""
    a, b = both[f"{name} a"], both[f"{name} b"]
    changed: NDArray[np.bool_] = ((a != b).fillna(True) & ~(a.isna() & b.isna())).to_numpy(bool)
    s.changed += int(changed.sum())
    if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b) and not pd.api.types.is_bool_dtype(a):
        x, y = (c.to_numpy(np.float64, na_value=np.nan) for c in (a, b))
        known = np.isfinite(x) & np.isfinite(y)
        s.numbers += int(known.sum())
        s.sum_a, s.sum_b = s.sum_a + float(x[known].sum()), s.sum_b + float(y[known].sum())
        s.sizes.add(np.abs(y - x)[known & changed])
        if of_streets and name not in _ASIDE and not name.endswith(_BOUNDS):
            by = pd.DataFrame({"a": x[known], "b": y[known], "n": 1}).groupby(both["segment_id"].to_numpy()[known]).sum()
            s.streets.append(by)
    return changed


def _of_street(product: str, name: str, s: _Sums) -> Streets:
    by = pd.concat(s.streets)
    by = by.groupby(level=0).sum()
    a, b = by["a"] / by["n"], by["b"] / by["n"]
    differ = (a != b).to_numpy()
    means = {str(i): (float(x), float(y)) for i, x, y in zip(by.index[differ], a[differ], b[differ], strict=True)}
    return Streets(product=product, field=name, unit=unit_of(name), means=means)


# ----------------------------------------------------------------------------------------------------------------------- totals


def _totals(a: Path, b: Path) -> list[Total]:
    """Over the whole city and its final windows: emissions, distance, delay."""
    sums = [{**_emitted(run), **_driven(run)} for run in (a, b)]
    return [Total(name=n, unit=u, a=sums[0].get((n, u), 0.0), b=sums[1].get((n, u), 0.0)) for n, u in dict.fromkeys([*sums[0], *sums[1]])]


def _emitted(run: Path) -> dict[tuple[str, str], float]:
    rows = _city(run / "emission-area.parquet")
    if rows is None:
        return {}
    hours = _hours(rows)
    longest = hours == hours.max()  # single minutes are within their five
    rows, hours = rows[longest], hours[longest]
    found = {n: float((rows[f"{n}.value"].to_numpy(np.float64) * hours).sum()) for n in OUTPUTS}
    return {(n, unit_of(n).removesuffix("/h").replace("g", "kg")): v / 1000 if unit_of(n) == "g/h" else v for n, v in found.items()}


def _driven(run: Path) -> dict[tuple[str, str], float]:
    rows = _city(run / "area-state.parquet")
    if rows is None:
        return {}
    hours = _hours(rows)
    units = {
        "vehicle_km_h": ("distance", "vehicle-km"),
        "delay_veh_h": ("delay", "vehicle hours"),
        "vehicle_h_h": ("time driven", "vehicle hours"),
    }
    return {told: float(np.nansum(rows[n].to_numpy(np.float64, na_value=np.nan) * hours)) for n, told in units.items()}


def _city(file: Path) -> pd.DataFrame | None:
    """Final rows of the whole city."""
    if not file.exists():
        return None
    rows = _flat(ds.dataset(file).to_table(filter=(ds.field("area_kind") == "city") & (ds.field("status") == "final")))
    return rows if len(rows) else None


def _hours(rows: pd.DataFrame) -> NDArray[np.float64]:
    length: NDArray[np.float64] = (rows["window_end"] - rows["window_start"]).dt.total_seconds().to_numpy() / 3600
    return length
