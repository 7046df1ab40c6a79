"""Finding the row of a vehicle: exact where everything is given, stated defaults where a field is left empty.

Defaults: flat road, half load, the urban constant of a factor that is given by driving mode, the middle size of a
category, the technology that most vehicles of a class have, and the newest Euro class.
"""

from functools import cache
from typing import Final

from models.emissions.factors import hot_table

#: Segment taken when none is given, by category; a fuel that has only other segments takes its first.
DEFAULT_SEGMENT: Final = {
    "passenger_car": "Medium",
    "lcv": "N1-III",
    "rigid_truck": "Rigid 20 - 26 t",
    "articulated_truck": "Articulated 40 - 50 t",
    "urban_bus": "Urban Buses Standard 15 - 18 t",
    "coach": "Coaches Standard <=18 t",
}
#: Technologies taken when none is given, first present wins.
DEFAULT_TECHNOLOGY: Final = ("", "PFI", "DPF+SCR", "DPF", "SCR", "GDI", "BEV")
DEFAULT_MODE: Final = "Urban Peak"
DEFAULT_SLOPE: Final = "0"
DEFAULT_LOAD: Final = "0.5"

#: Fuels (as the tables name them) that leave nothing at the tailpipe.
ELECTRIC_FUELS: Final = frozenset(
    {"electric", "petrol_phev_electric_mode", "diesel_phev_electric_mode", "diesel_hybrid_electric_mode"},
)


class NoSuchRow(LookupError):
    """The tables hold no such row; the message names the first field that has no match."""


def is_electric(fuel: str) -> bool:
    """Whether a fuel of the tables is driving on electricity.

    >>> is_electric("petrol_phev_engine_mode")
    False
    """
    return fuel in ELECTRIC_FUELS


@cache
def _vehicles() -> dict[tuple[str, str], dict[str, dict[str, list[str]]]]:
    """(category, fuel) -> segment -> euro -> technologies, in table order."""
    tree: dict[tuple[str, str], dict[str, dict[str, list[str]]]] = {}
    for category, fuel, segment, euro, technology, *_ in hot_table().key:
        technologies = tree.setdefault((category, fuel), {}).setdefault(segment, {}).setdefault(euro, [])
        if technology not in technologies:
            technologies.append(technology)
    return tree


def resolve(category: str, fuel: str, segment: str = "", euro: str = "", technology: str = "") -> tuple[str, str, str, str, str]:
    """A vehicle with its empty fields filled.

    Raises:
        NoSuchRow: a given field does not exist under the fields before it.

    >>> resolve("passenger_car", "petrol", euro="Euro 4")
    ('passenger_car', 'petrol', 'Medium', 'Euro 4', 'PFI')
    """
    tree = _vehicles()
    if (category, fuel) not in tree:
        known = sorted({c for c, _ in tree})
        if category not in known:
            raise NoSuchRow(f"no row: category = {category!r}, expected one of {', '.join(known)}")
        raise NoSuchRow(f"no row: fuel = {fuel!r}, expected one of {', '.join(f for c, f in tree if c == category)}")
    segments = tree[category, fuel]
    if not segment:
        wanted = "default" if fuel == "electric" and "default" in segments else DEFAULT_SEGMENT[category]
        segment = wanted if wanted in segments else next(iter(segments))
    if segment not in segments:
        raise NoSuchRow(f"no row: segment = {segment!r}, expected one of {', '.join(segments)}")
    euros = segments[segment]
    euro = euro or list(euros)[-1]
    if euro not in euros:
        raise NoSuchRow(f"no row: euro = {euro!r}, expected one of {', '.join(euros)}")
    technologies = euros[euro]
    if not technology:
        technology = next((t for t in DEFAULT_TECHNOLOGY if t in technologies), technologies[0])
    if technology not in technologies:
        raise NoSuchRow(f"no row: technology = {technology!r}, expected one of {', '.join(t or '(none)' for t in technologies)}")
    return category, fuel, segment, euro, technology


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise NoSuchRow(f"no row: {field} = {text!r}, expected a number as in the tables") from None


def find(vehicle: tuple[str, str, str, str, str], pollutant: str, mode: str = "", road_slope: str = "", load: str = "") -> int:
    """Position in ``hot_table()`` of one factor of a resolved vehicle.

    Args:
        vehicle: category, fuel, segment, euro, technology, all filled (``resolve``).
        pollutant: as the tables name it: CO, NOx, VOC, PM_exhaust, CH4, NH3, N2O, EC.
        mode: driving mode, for factors that are constants by mode.
        road_slope: fraction, -0.06 to 0.06; empty or 0 is flat.
        load: 0, 0.5 or 1; empty is 0.5.

    Raises:
        NoSuchRow: there is no such factor.

    >>> find(resolve("urban_bus", "diesel", euro="Euro VI D/E"), "NOx") < find(
    ...     resolve("urban_bus", "diesel", euro="Euro VI D/E"), "NOx", road_slope="0.04", load="1"
    ... )
    True
    """
    index = hot_table().index
    slope = _number("road_slope", road_slope or DEFAULT_SLOPE)
    share = _number("load", load or DEFAULT_LOAD)
    slopes = [f"{slope:g}"] + ([""] if slope == 0.0 and share == 0.5 else [])
    if not load and slope == 0.0 and "" not in slopes:
        slopes.append("")
    for mode_key in (mode,) if mode else ("", DEFAULT_MODE):
        for slope_key in slopes:
            found = index.get((*vehicle, pollutant, mode_key, slope_key, f"{share:g}" if slope_key else ""))
            if found is not None:
                return found
    mine = [key for key in index if key[:5] == vehicle]
    if not any(key[5] == pollutant for key in mine):
        raise NoSuchRow(f"no row: pollutant = {pollutant!r}, expected one of {', '.join(dict.fromkeys(k[5] for k in mine))}")
    mine = [key for key in mine if key[5] == pollutant]
    if mode and not any(key[6] == mode for key in mine):
        modes = ", ".join(dict.fromkeys(k[6] or "(none)" for k in mine))
        raise NoSuchRow(f"no row: mode = {mode!r}, expected one of {modes}")
    have = ", ".join(dict.fromkeys(f"{k[7] or 0}/{k[8] or 0.5}" for k in mine))
    raise NoSuchRow(f"no row: road_slope/load = {slope:g}/{share:g}, expected one of {have}")
