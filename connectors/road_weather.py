"""Sensors of Fintraffic's road weather stations, by name: which field each one fills, what its codes mean, what is possible.

Digitraffic and Oulunliikenne publish the same stations. Of several sensors of one quantity the first that reports is taken. Codes: sensors list of
Digitraffic's road weather interface (``/api/weather/v1/sensors``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from connectors.reading import Refused
from models.records import Precipitation, PrecipitationKind, RoadCondition, RoadWeather


class Quantity(NamedTuple):
    """One field and its limits; ``factor`` turns the sensor's unit into the field's."""

    field: str
    low: float
    high: float
    factor: float = 1.0


#: In order of preference within a field.
QUANTITIES: dict[str, Quantity] = {
    "ILMA": Quantity("air_c", -60, 60),
    "TIE_1": Quantity("road_c", -60, 80),
    "TIE_2": Quantity("road_c", -60, 80),
    "TIEN_LÄMPÖTILA_DST-ANT": Quantity("road_c", -60, 80),
    "KASTEPISTE": Quantity("dew_point_c", -80, 50),
    "ILMAN_KOSTEUS": Quantity("humidity_pct", 0, 100),
    "KESKITUULI": Quantity("wind_mps", 0, 80),
    "MAKSIMITUULI": Quantity("wind_gust_mps", 0, 120),
    "TUULENSUUNTA": Quantity("wind_direction_deg", 0, 360),
    "SADE_INTENSITEETTI": Quantity("precipitation_mmh", 0, 500),
    "NÄKYVYYS_M": Quantity("visibility_m", 0, 100_000),
    "NÄKYVYYS_KM": Quantity("visibility_m", 0, 100_000, 1000.0),
    "KITKA1": Quantity("friction", 0, 1),
    "KITKA2": Quantity("friction", 0, 1),
    "LUMEN_SYVYYS": Quantity("snow_cm", 0, 1000),
}
#: Sensor numbers on MQTT, where no names are sent.
NAMES = {
    1: "ILMA", 3: "TIE_1", 5: "TIE_2", 9: "KASTEPISTE", 16: "KESKITUULI", 17: "MAKSIMITUULI", 18: "TUULENSUUNTA", 21: "ILMAN_KOSTEUS", 22: "SADE",
    23: "SADE_INTENSITEETTI", 25: "SATEEN_OLOMUOTO_PWDXX", 26: "NÄKYVYYS_KM", 27: "KELI_1", 28: "KELI_2", 58: "NÄKYVYYS_M",
}  # fmt: skip
_AMOUNT: dict[int, Precipitation] = {0: "none", 1: "light", 2: "moderate", 3: "heavy", 4: "light", 5: "moderate", 6: "heavy"}
_KIND: dict[int, PrecipitationKind] = {
    7: "none", 8: "unknown", 9: "drizzle", 10: "rain", 11: "snow", 12: "sleet", 13: "sleet", 14: "hail", 15: "ice", 16: "snow", 17: "snow", 18: "ice", 19: "ice",
}  # fmt: skip
_ROAD: dict[int, RoadCondition] = {
    1: "dry", 2: "moist", 3: "wet", 4: "wet_salty", 5: "frost", 6: "snow", 7: "ice", 8: "probably_moist_salty", 9: "slushy",
}  # fmt: skip
_CODES: dict[str, tuple[str, dict[int, Any]]] = {
    "SADE": ("precipitation", _AMOUNT),
    "SATEEN_OLOMUOTO_PWDXX": ("precipitation_kind", _KIND),
    "KELI_1": ("road_condition", _ROAD),
    "KELI_2": ("road_condition", _ROAD),
}
#: Names of test installations, seen among the real ones.
TEST = "TEST"
USED = frozenset(QUANTITIES) | frozenset(_CODES)


def fields_of(values: dict[str, float]) -> tuple[dict[str, Any], list[Refused]]:
    """Fields of a ``RoadWeather`` by the sensors' values, and the values that cannot be.

    >>> fields_of({"ILMA": -4.2, "TIE_2": -3.4, "KELI_1": 7, "NÄKYVYYS_KM": 20.0})[0]
    {'air_c': -4.2, 'road_c': -3.4, 'visibility_m': 20000.0, 'road_condition': 'ice'}
    """
    out: dict[str, Any] = {}
    refused = []
    for name, q in QUANTITIES.items():
        if name not in values or q.field in out:
            continue
        value = values[name] * q.factor
        if not q.low <= value <= q.high:
            refused.append(Refused("range", name, values[name], f"{q.low / q.factor:g} to {q.high / q.factor:g}"))
        elif q.field == "wind_direction_deg" and value == 360:
            out[q.field] = 0.0
        else:
            out[q.field] = value
    for name, (field, meaning) in _CODES.items():
        if name in values and out.get(field, "unknown") == "unknown":
            out[field] = meaning.get(int(values[name]), "unknown") if values[name] == values[name] // 1 else "unknown"
    return out, refused


def record(values: dict[str, float], **identity: Any) -> tuple[RoadWeather, list[Refused]]:
    """The record of one station; ``identity``: its fields that no sensor fills."""
    fields, refused = fields_of(values)
    return RoadWeather(**identity, **fields), refused
