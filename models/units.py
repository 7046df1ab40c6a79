"""Units of fields, by what the ends of their names say."""

from __future__ import annotations

from models.emissions.rates import OUTPUT_UNIT

#: What the end of a field's name says of its unit; the first that fits counts.
UNITS = {
    "_mps": "m/s",
    "_kmh": "km/h",
    "_vph": "vehicles/h",
    "_mmh": "mm/h",
    "_kwh_km": "kWh/km",
    "_mj_h": "MJ/h",
    "_g_h": "g/h",
    "vehicle_km_h": "vehicle km/h",
    "vehicle_h_h": "vehicle hours/h",
    "_km_h": "km/h",
    "_veh_h": "vehicle hours/h",
    "_deg": "degrees",
    "_pct": "%",
    "_cm": "cm",
    "_m": "m",
    "_s": "s",
    "_c": "°C",
    "_ratio": "ratio",
    "_share": "0–1",
}


def unit_of(name: str) -> str:
    """Unit of a field; of one inside another, ``co2_total.value``, that of the outer one where it tells.

    >>> unit_of("vehicle_km_h"), unit_of("vehicle_h_h")
    ('vehicle km/h', 'vehicle hours/h')
    >>> unit_of("speed_kmh"), unit_of("segment_id"), unit_of("co2_total.value"), unit_of("co2_total.lo95")
    ('km/h', '', 'g/h', 'g/h')
    """
    outer, last = name.partition(".")[0], name.rpartition(".")[2]
    return OUTPUT_UNIT.get(outer) or next((unit for part in (last, outer) for end, unit in UNITS.items() if part.endswith(end)), "")
