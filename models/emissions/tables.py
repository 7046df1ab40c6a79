"""The data tables of the emission model, read once from ``models/emissions/data``.

Every row keeps an id (``H0001`` hot factor, ``S0001`` hot factor by slope and load, ``E0001`` electric energy,
``N0001`` wear, ``P0001`` primary NO2 share, ``C0001`` cold start), and the ids belong to one factor-set version.
A published value names the version, and the version and an id together name a printed coefficient row.
Sources: ``models/emissions/data/README.md``.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: Version of the tables and of the rules that read them. Changes whenever a published number could change.
FACTOR_SET = "emep-eea-2019u2020.1"

#: What the values cover, for the ``scope`` field: exhaust at the vehicle, wear; not production of fuels and vehicles.
SCOPE = "tank-to-wheel exhaust, hot and cold start; wear PM10 without resuspension and studded tyres; electricity at the plug"

_DATA = Path(__file__).parent / "data"


@cache
def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """Rows of ``data/<name>.csv`` in file order, as text.

    >>> rows("constants")[0]["name"]
    'co2_g_per_mj_diesel'
    """
    with (_DATA / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return tuple(csv.DictReader(stream))


@cache
def constant(name: str) -> float:
    """One number of ``constants.csv``; its unit is in the table.

    >>> constant("co2_g_per_mj_petrol")
    71.7
    """
    for row in rows("constants"):
        if row["name"] == name:
            return float(row["value"])
    raise KeyError(name)
