"""The table of typical values in ``docs/emissions.md``: car, van, truck and bus at city speeds.

python -m models.emissions.typical docs/emissions.md     rewrites the table between its markers
"""

import sys
from pathlib import Path
from typing import Final

from models.emissions.fleet import fleet_from_rows
from models.emissions.rates import OUTPUTS, Conditions, rate_table

SPEEDS_KMH: Final = (15.0, 30.0, 50.0, 80.0)
_BEGIN, _END = "<!-- typical values: begin -->", "<!-- typical values: end -->"

#: (name, category, fuel, segment, euro, technology)
VEHICLES: Final = (
    ("car, petrol Euro 6 d", "passenger_car", "petrol", "Medium", "Euro 6 d", "GDI+GPF"),
    ("car, diesel Euro 5", "passenger_car", "diesel", "Medium", "Euro 5", "DPF"),
    ("car, diesel Euro 6 d", "passenger_car", "diesel", "Medium", "Euro 6 d", "DPF+SCR"),
    ("car, battery", "passenger_car", "electric", "Average", "all", "BEV"),
    ("van N1-III, diesel Euro 6 d", "lcv", "diesel", "N1-III", "Euro 6 d", "DPF+SCR"),
    ("truck 20-26 t, Euro VI D/E", "rigid_truck", "diesel", "Rigid 20 - 26 t", "Euro VI D/E", "DPF+SCR"),
    ("truck 50-60 t, Euro VI D/E", "articulated_truck", "diesel", "Articulated 50 - 60 t", "Euro VI D/E", "DPF+SCR"),
    ("bus 15-18 t, Euro III", "urban_bus", "diesel", "Urban Buses Standard 15 - 18 t", "Euro III", ""),
    ("bus 15-18 t, Euro VI D/E", "urban_bus", "diesel", "Urban Buses Standard 15 - 18 t", "Euro VI D/E", "DPF+SCR"),
    ("bus, battery (default)", "urban_bus", "electric", "default", "all", "BEV"),
)
_SHOWN: Final = (
    ("CO2, g/km", "co2_total", 0),
    ("NOx, g/km", "nox", 3),
    ("PM exhaust, mg/km", "pm_exhaust", 1),
    ("PM wear, mg/km", "pm_nonexhaust", 0),
    ("CO, g/km", "co", 2),
    ("energy, MJ/km", "energy", 2),
)


def typical_values() -> dict[str, dict[str, tuple[float, ...]]]:
    """vehicle -> output -> value per km at each of SPEEDS_KMH (g, MJ); hot, flat, half load, tailpipe CO2 fossil and biogenic together."""
    out = {}
    for name, *vehicle in VEHICLES:
        fleet = fleet_from_rows(
            [dict(zip(("category", "fuel", "segment", "euro", "technology"), vehicle, strict=True), share=1, stream="one")], "one"
        )
        table = rate_table(fleet, Conditions(temperature_c=20.0))
        per_km = table.rate_at("one", SPEEDS_KMH, urban=False) / [[v] for v in SPEEDS_KMH]
        out[name] = {output: tuple(float(x) for x in per_km[:, p]) for p, output in enumerate(OUTPUTS)}
    return out


def typical_markdown() -> str:
    """The table, one row a vehicle; four values a cell for 15 / 30 / 50 / 80 km/h."""
    lines = [
        "| hot, flat, half load; 15 / 30 / 50 / 80 km/h | " + " | ".join(head for head, _, _ in _SHOWN) + " |",
        "| --- " * (len(_SHOWN) + 1) + "|",
    ]
    for name, values in typical_values().items():
        cells = []
        for head, output, digits in _SHOWN:
            scale = 1000.0 if head.endswith("mg/km") else 1.0
            cells.append(" / ".join(f"{x * scale:.{digits}f}" for x in values[output]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(document: str) -> str:
    """The document with the table between its markers renewed."""
    head, _, rest = document.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}\n{typical_markdown()}\n{_END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
