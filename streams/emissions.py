"""Emissions of a window: of segments, areas and transit vehicles; and how traffic flows in areas.

Pure, like fuse, which calls it: estimates of all segments, cells of all vehicles and readings of all counters of a window in, records out. Models:
``models/emissions``; the method in words: ``docs/emissions.md``. What it keeps between windows is small: what counters, weather stations and the grid last said,
the cells of transit vehicles and the paces of segments of the block of five windows that is filling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.cities import City
from geo.network import F64, I64, Bool, Network
from models.clock import rfc3339
from models.emissions import tables
from models.emissions.bounds import Z95, interval
from models.emissions.cold import DEFAULT_TEMPERATURE_C
from models.emissions.fleet import Fleet, fleet_of
from models.emissions.flow import CREEP_KMH, MEASURED, Flow, urban_of
from models.emissions.rates import OUTPUTS, STEP_KMH, Conditions
from models.emissions.segment import Traffic, mixed, own_log_var, values
from models.fusion import ORIGINS, Estimate
from streams import emission_areas, emission_text
from streams.areas import Areas, areas_of
from streams.cells import WINDOW_MS
from streams.figures import fixed, significant
from streams.fleets import Rates, rates
from streams.flows import Flows, FlowsSettings
from streams.outputs import Block, Out, Outputs, parted
from streams.partial import Partial, SensorRow
from streams.states import names_of
from streams.surroundings import Surroundings
from streams.texts import join, pick
from streams.transit import Crews, Driven, Recent, driven

#: ``flow_source`` as segment-state calls it, by code of ``models.emissions.flow.SOURCES``.
FLOW_SOURCES = ("measured", "transferred", "fundamental_diagram", "prior")
#: A window's provisional emissions are published this long after its minute, milliseconds: most of its data has come by then.
PROVISIONAL_MS = 5_000
CO2 = OUTPUTS.index("co2_total")
#: Quantiles of 20 and 80 % lie this many standard deviations apart.
_P20_P80 = 2 * 0.8416212335729143
NONE = 0  #: ``models.fusion.ORIGINS``


@dataclass(frozen=True, slots=True)
class EmissionSettings:
    """All parameters of the emission step."""

    #: A fleet of one's own; None: the city's, by date.
    fleet: Fleet | None = None
    #: The city's fleet as it is, or is expected to be, in this year, on the same day; None: of the day itself.
    fleet_year: int | None = None
    #: Shares of its streams by road class; None: ``composition.csv``, or the one stream that is not buses.
    mix: Mapping[str, Mapping[str, float]] | None = None
    #: 0: EMEP/EEA alone; 1: HBEFA4; 0.5: the geometric mean of the two official models, since nothing says which is nearer to the street.
    hbefa_weight: float = 0.5
    #: CO2 of the grid, g/kWh; None: the default of the tables, and said.
    grid_g_per_kwh: float | None = None
    #: Windows after which every segment and area is published, with means over them.
    block_windows: int = 5
    #: Temperature is rounded to this, degrees C: each step has its own lookup.
    temperature_step_c: float = 0.5
    #: Powertrain of vehicles that are known: vehicle_id -> one of ``fleets.POWERTRAINS``.
    powertrains: Mapping[str, str] = field(default_factory=dict)
    flows: FlowsSettings = field(default_factory=FlowsSettings)

    def __post_init__(self) -> None:
        if self.fleet_year is not None and not 2015 <= self.fleet_year <= 2099:
            raise ValueError(f"fleet_year = {self.fleet_year}, expected 2015 to 2099: the tables hold these")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the fuse step knows of one window."""

    rows: I64  #: segments that ``estimate`` speaks of, in its order
    estimate: Estimate
    observed: I64  #: segments on which something was measured in this window
    segment: I64  #: cells: segment, vehicle number and sums
    who: I64
    sums: I64
    vehicles: Sequence[str]  #: names by vehicle number
    sensors: Mapping[str, SensorRow]
    revision: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Transit:
    """What transit vehicles add, where there are any."""

    at: I64  #: (k,) segments, sorted
    value: F64  #: (9, k) rates
    vehicles: F64  #: (k,) how many there were
    told: Bool  #: (n,) whether a segment is among them

    def among(self, at: I64) -> tuple[I64, I64]:
        """Which of the segments ``at`` have transit vehicles, and their places here."""
        here = np.flatnonzero(self.told[at])
        return here, np.searchsorted(self.at, at[here])


@dataclass(frozen=True, slots=True)
class Result:
    """Emissions of all segments, with the traffic they come from."""

    rates: Rates
    mix: F64  #: ``models.emissions.segment.mixed``
    traffic: Traffic  #: of the vehicles that are not transit
    transit: Transit
    transit_share: F64  #: of co2_total
    flow_vph: F64  #: all vehicles
    chance: F64  #: variance of ln(flow) that comes of how many vehicles happened to drive
    speed_kmh: F64
    origin: I64

    def values(self, at: I64) -> F64:
        """Emissions of some segments, (9, m) in the order of ``OUTPUTS``. They are not kept: a table of all segments is larger than what it is made from."""
        value = values(self.traffic.of(at), self.rates.table, self.mix)
        here, there = self.transit.among(at)
        value[:, here] += self.transit.value[:, there]
        return value


class Emitter:
    """Emission step of one city."""

    def __init__(
        self,
        city: City,
        network: Network,
        free_flow_kmh: F64,
        expected_kmh: F64,
        settings: EmissionSettings | None = None,
        block: I64 | None = None,
    ) -> None:
        self.city, self.network, self.free_flow_kmh = city, network, free_flow_kmh
        self.settings = cfg = settings or EmissionSettings()
        s = network.segments
        n = len(s)
        self.flows = Flows(network, city.timezone, expected_kmh, cfg.flows, block)
        self.length_km = self.flows.length_km
        self.expected_kmh = expected_kmh
        self.general: Bool = np.array([r == "general_traffic" for r in s.represents], np.bool_)
        self.urban: Bool = urban_of(self.flows.road_class)
        self.areas: Areas = areas_of(network, city.name, city.district_polygons)
        self.area_counts: I64 = np.rint(self.areas.sums(self.general.astype(np.float64))).astype(np.int64)
        self.area_texts = emission_areas.Texts(self.areas)
        self.crews = Crews()
        self.register = city.powertrain_register
        self.surroundings = Surroundings()
        self.recent = Recent(cfg.block_windows)
        self.pace: F64 = np.zeros(n)  #: sum of 1 / speed over the block's windows
        self.pace_windows: I64 = np.zeros(n, np.int64)
        self.last_speed: F64 = np.full(n, np.nan)  #: of the last final window
        self.origin, self.confidence = np.zeros((2, n))  #: of that speed
        self.settled = False  #: a window has become final since the start: enough is known to speak of areas before the next one does
        self.flow_vph: F64 = np.full(n, np.nan)  #: of the last final window, all vehicles; and where it comes from
        self.flow_source: I64 = np.zeros(n, np.int64)
        self.keys, self.names = names_of(s.segment_id)
        self.told = -1  #: the newest window that a provisional round was made of
        self._rates: dict[tuple[Any, ...], Rates] = {}
        self.rates_of(0)

    # ---------------------------------------------------------------- conditions

    def hear(self, partial: Partial, first: int) -> None:
        """Take in what a partial says of crews and of the weather; windows before ``first`` are final."""
        self.crews.hear(partial.crews, first)
        self.surroundings.hear(partial.weather, partial.grid)

    def conditions(self, end_ms: int) -> Conditions:
        """Temperature and grid at the end of a window: the median of the newest readings that had been received by then, else the month's usual; and
        the grid's newest factor, else the default of the tables."""
        cfg = self.settings
        grid: dict[str, Any] = {} if cfg.grid_g_per_kwh is None else {"grid_g_per_kwh": cfg.grid_g_per_kwh, "grid_source": "live"}
        if not grid and (live := self.surroundings.grid_at(end_ms)) is not None:
            grid = {"grid_g_per_kwh": live[1], "grid_source": "live"}
        air, source = self.surroundings.air_c(end_ms), "measured"
        if air is None:
            air, source = DEFAULT_TEMPERATURE_C[self._day(end_ms).month - 1], "default"
        air = round(air / cfg.temperature_step_c) * cfg.temperature_step_c
        return Conditions(temperature_c=air, temperature_source=source, hbefa_weight=cfg.hbefa_weight, **grid)

    def _day(self, end_ms: int) -> date:
        return datetime.fromtimestamp(end_ms / 1000, UTC).astimezone(self.flows.zone).date()

    def rates_of(self, end_ms: int) -> Rates:
        """Lookups at the end of a window; made anew only when the temperature or the day's fleet changes."""
        day, conditions = self._day(end_ms), self.conditions(end_ms)
        of = day if self.settings.fleet_year is None else day.replace(self.settings.fleet_year, day.month, min(day.day, 28))
        fleet = self.settings.fleet or fleet_of(self.city.name, of)
        key = (fleet.name, conditions.temperature_c, conditions.temperature_source, conditions.grid_g_per_kwh)
        found = self._rates.get(key)
        if found is None:
            if len(self._rates) > 8:
                self._rates.clear()
            found = self._rates[key] = rates(fleet, self.city.name, of, conditions, self.settings.mix, self.register.classes())
        return found

    def rates(self) -> list[Rates]:
        """Lookups that were made."""
        return list(self._rates.values())

    # ------------------------------------------------------------------- windows

    def final(self, w: int, seen: Seen) -> Outputs:
        """Records of a window that has become final; ``seen.rows`` are all segments, in order."""
        out = Outputs()
        end_ms = (w + 1) * WINDOW_MS
        self.flows.hear(seen.sensors)
        self.flows.forget(end_ms)
        r = self.rates_of(end_ms)
        d = driven(w, seen.segment, seen.who, seen.sums, seen.vehicles, self.crews.of(w))
        self.recent.add(w, d, self._streams(d, r))
        self.crews.forget(w)
        speed = np.where(self.general, seen.estimate.speed_kmh, np.nan)
        self.last_speed, self.settled = speed, True
        known = np.isfinite(speed)
        self.pace += np.where(known, 1.0 / np.maximum(np.nan_to_num(speed, nan=1.0), CREEP_KMH), 0.0)
        self.pace_windows += known
        flow = self._flow(end_ms, speed, seen)
        self.flow_vph = np.where(known, flow.flow_vph + self.recent.flow_vph(w, self.length_km), np.nan)
        self.flow_source = flow.source.astype(np.int64)
        areas = self._minute(w, seen, r, d, flow, speed, out, "final")
        self.origin[seen.rows], self.confidence[seen.rows] = seen.estimate.origin, seen.estimate.confidence
        out.add("area-state", emission_areas.states(self, w, seen, d, flow, speed, "final"))
        if (w + 1) % self.settings.block_windows == 0:
            self._block(w, seen, r, out)
            self.pace[:] = 0.0
            self.pace_windows[:] = 0
        out.add("emission-area", areas)  # after those of the block: the last record of an area is that of the last minute
        return out

    def due(self, w: int, log_ms: int) -> bool:
        """Whether a window deserves a provisional round: once, some seconds after its minute has passed."""
        return w > self.told and log_ms >= (w + 1) * WINDOW_MS + PROVISIONAL_MS

    def provisional(self, w: int, seen: Seen) -> Outputs:
        """Records of a window whose minute has passed, from what has come in so far. No final record depends on it."""
        out = Outputs()
        self.told = max(self.told, w)
        end_ms = (w + 1) * WINDOW_MS
        r = self.rates_of(end_ms)
        d = driven(w, seen.segment, seen.who, seen.sums, seen.vehicles, self.crews.of(w))
        speed = self.last_speed.copy()
        speed[seen.rows] = np.where(self.general[seen.rows], seen.estimate.speed_kmh, np.nan)
        flow = self._flow(end_ms, speed, seen, seen.sensors)
        areas = self._minute(w, seen, r, d, flow, speed, out, "provisional")
        if self.settled:
            out.add("emission-area", areas)
            out.add("area-state", emission_areas.states(self, w, seen, d, flow, speed, "provisional"))
        return out

    def _flow(self, end_ms: int, speed: F64, seen: Seen, now: Mapping[str, SensorRow] | None = None) -> Flow:
        """Flow of every segment, transit left out."""
        pace = np.where(np.isfinite(speed), speed, self.expected_kmh)
        stretch = self.flows.stretches.harmonic(pace, self.network.segments.length_m)
        transit = self.recent.flow_vph(end_ms // WINDOW_MS - 1, self.length_km)
        return self.flows.at(end_ms, pace, self._speed_log_sd(seen), stretch, transit, now)

    def _minute(self, w: int, seen: Seen, r: Rates, d: Driven, flow: Flow, speed: F64, out: Outputs, status: str) -> Sequence[Out]:
        """Segments with something measured, and vehicles; and what is to be told of areas."""
        stream = self._streams(d, r)
        cells = (d.segment, d.time_ms, d.dist_mm, stream[d.vehicle], np.rint(d.speed_kmh / 3.6 * 1000.0).astype(np.int64)[d.vehicle])
        rows = np.union1d(seen.observed, d.segment)
        result = self.result(r, flow, speed, seen, cells, 1)
        shown = rows[np.isfinite(speed[rows]) | (result.transit_share[rows] > 0.0)]
        out.add("emission-segment", self._segment_records(result, r, w, w, seen, status, shown))
        out.add("emission-vehicle", emission_areas.vehicles(self, w, d, r, seen, status))
        return emission_areas.emissions(self, w, w, result, r, seen, status)

    def _block(self, w: int, seen: Seen, r: Rates, out: Outputs) -> None:
        """Every segment and area, over the windows of the block that ends with ``w``."""
        first = w + 1 - self.settings.block_windows
        speed = np.where(self.pace_windows > 0, self.pace_windows / np.where(self.pace > 0.0, self.pace, 1.0), np.nan)
        flow = self._flow((w + 1) * WINDOW_MS, speed, seen)
        result = self.result(r, flow, speed, seen, self.recent.between(first, w), self.settings.block_windows)
        shown = np.flatnonzero(np.isfinite(speed) | (result.transit_share > 0.0))
        out.add("emission-segment", self._segment_records(result, r, first, w, seen, "final", shown))
        out.add("emission-area", emission_areas.emissions(self, first, w, result, r, seen, "final"))

    # ------------------------------------------------------------------ emissions

    def _streams(self, d: Driven, r: Rates) -> I64:
        """Stream of the lookup of each vehicle."""
        mix = r.transit["mix"]
        return np.array([r.transit.get(self.powertrain(v)[0], mix) for v in d.vehicle_id], np.int64)

    def powertrain(self, vehicle_id: str) -> tuple[str, str | None]:
        """Of a transit vehicle, with its emission class behind a colon where that is known, "mix" where nothing is; and how it is known."""
        if (own := self.settings.powertrains.get(vehicle_id)) is not None:
            return own, None
        row = self.register.of(vehicle_id)
        if row is None:
            return "mix", None
        return f"{row.powertrain}:{row.euro}" if row.euro else row.powertrain, row.source

    def result(self, r: Rates, flow: Flow, speed: F64, seen: Seen, cells: tuple[I64, I64, I64, I64, I64], windows: int) -> Result:
        """Emissions of all segments over the last ``windows`` windows: general traffic by flow and speed, transit vehicles one by one."""
        known = np.isfinite(speed)
        pace = np.where(known, np.maximum(speed, 0.0), self.expected_kmh)
        counts = known & self.general
        density = np.where(counts, flow.density_vpkm, 0.0)
        vph = np.where(counts, flow.flow_vph, 0.0)
        smooth = self.flows.stretches.speed(vph * self.length_km, density * self.length_km)
        smooth = np.where(density > 0.0, smooth, pace)
        share = r.alone if self.recent.cells else r.together
        hours = windows * WINDOW_MS / 3_600_000
        speed_var = np.where(flow.jammed, flow.density_log_var - flow.log_var, self._speed_error(r, seen) ** 2)
        number = np.maximum(vph * hours, 1.0)  # few vehicles are no average: how many chance brought, and who they are
        chance = np.where(flow.source == MEASURED, 0.0, np.log1p(1.0 / number))
        noise = chance + np.log1p(r.general_cv2[CO2] / number)
        traffic = Traffic(
            self.length_km, smooth, vph, share, self.urban, np.where(counts, flow.log_var, 0.0), flow.source,
            density_vpkm=density, extra_log_sd=np.sqrt(np.maximum(speed_var, 0.0) + noise), kind=self.flows.road_class,
        )  # fmt: skip
        transit, transit_vph = self._transit(r, cells, hours)
        mix = mixed(share, r.table)
        share_of = np.zeros(len(known))
        co2 = values(traffic.of(transit.at), r.table, mix)[CO2] + transit.value[CO2]
        share_of[transit.at] = np.where(co2 > 0.0, transit.value[CO2] / np.where(co2 > 0.0, co2, 1.0), 0.0)
        origin = np.zeros(len(known), np.int64)
        origin[seen.rows] = seen.estimate.origin
        return Result(r, mix, traffic, transit, share_of, vph + transit_vph, chance, speed, origin)

    def bounds(self, result: Result, at: I64, value: F64) -> tuple[F64, F64]:
        """lo95 and hi95 of some segments of a result, (9, m) each, whose ``values`` are given."""
        r, transit = result.rates, result.transit
        own_var = own_log_var(result.traffic.of(at)) + r.bounds.speed[:, None] ** 2
        here, there = transit.among(at)
        if len(here):
            total, part = value[:, here], transit.value[:, there]
            part = np.where(total > 0.0, part / np.where(total > 0.0, total, 1.0), 0.0)
            each = np.expm1(r.bounds.speed[:, None] ** 2 + np.log1p(r.transit_cv2[:, None] / np.maximum(transit.vehicles[there], 1.0)))
            own_var[:, here] = np.log1p((1.0 - part) ** 2 * np.expm1(own_var[:, here]) + part**2 * each)
        return interval(value, np.sqrt(own_var + r.bounds.shared[:, None] ** 2))

    def _transit(self, r: Rates, cells: tuple[I64, I64, I64, I64, I64], hours: float) -> tuple[Transit, F64]:
        """What transit vehicles emit, and their flow on every segment."""
        of, time_ms, dist_mm, stream, speed_mms = cells
        urban = self.urban[of].astype(np.int64)
        each = transit_rates(r, stream, urban, (speed_mms * 3.6e-3).astype(np.float64)) * (time_ms / 3_600_000 / hours)[:, None]
        at, k = np.unique(of, return_inverse=True)
        value = np.stack([np.bincount(k, each[:, p], len(at)) for p in range(len(OUTPUTS))]).astype(np.float64)
        vph = np.zeros(len(self.length_km))
        vph[at] = np.bincount(k, dist_mm, len(at)) / 1e6 / (np.maximum(self.length_km[at], 1e-6) * hours)
        told = np.zeros(len(vph), np.bool_)
        told[at] = True
        return Transit(at, value, np.bincount(k, minlength=len(at)).astype(np.float64), told), vph

    def _quantiles(self, seen: Seen) -> tuple[F64, F64]:
        """Quantiles of 20 and 80 % of every segment's speed, the estimate's own where it says them."""
        e = seen.estimate
        out = []
        for own, usual in ((e.p20_kmh, np.exp(-0.15 * _P20_P80)), (e.p80_kmh, np.exp(0.15 * _P20_P80))):
            speed = self.expected_kmh * usual
            speed[seen.rows] = np.where(np.isfinite(e.p80_kmh) & (e.p20_kmh > 0.0), own, speed[seen.rows])
            out.append(speed)
        return out[0], np.maximum(*out)

    def _speed_log_sd(self, seen: Seen) -> F64:
        """Standard deviation of ln(speed) of every segment."""
        p20, p80 = self._quantiles(seen)
        out: F64 = np.log(p80 / p20) / _P20_P80
        return out

    def _speed_error(self, r: Rates, seen: Seen) -> F64:
        """Standard deviation of ln(CO2) at a given flow that comes from not knowing the speed: from CO2 a kilometre at the quantiles of speed, no slower than
        vehicles creep: a queue emits a finite rate."""
        grid = np.arange(r.table.rate.shape[2]) * STEP_KMH
        per_km = np.einsum("s,sg->g", r.alone[2], r.table.rate[:, 1, :, CO2]) / np.maximum(grid, CREEP_KMH)
        log_co2 = np.log(np.maximum(per_km, 1e-12))
        slow, fast = (np.interp(np.maximum(v, CREEP_KMH), grid, log_co2) for v in self._quantiles(seen))
        out: F64 = np.abs(slow - fast) / _P20_P80
        return out

    # ------------------------------------------------------------------ publishing

    def grid_time(self, end_ms: int) -> str | None:
        """Since when the live factor holds that is used at the end of a window."""
        live = self.surroundings.grid_at(end_ms) if self.settings.grid_g_per_kwh is None else None
        return None if live is None else rfc3339(live[0])

    def common(self, r: Rates, seen: Seen, first: int, last: int, status: str) -> str:
        """Fields that all records of a window share."""
        c = r.conditions
        return emission_text.fields(
            {
                "window_start": rfc3339(first * WINDOW_MS), "window_end": rfc3339((last + 1) * WINDOW_MS), "status": status,
                "revision": seen.revision, "fleet_mix": r.fleet_mix, "factor_set": r.table.factor_set, "factor_rows": r.factor_rows,
                "scope": tables.SCOPE, "temperature_c": c.temperature_c, "temperature_source": c.temperature_source,
                "grid_g_per_kwh": c.grid_g_per_kwh, "grid_source": c.grid_source, "grid_time": self.grid_time((last + 1) * WINDOW_MS), "simulated": True if seen.simulated else None,
            }
        )  # fmt: skip

    def _segment_records(self, result: Result, r: Rates, first: int, last: int, seen: Seen, status: str, at: I64) -> Sequence[Out]:
        """``emission-segment`` of the rows ``at`` of a result."""
        common = self.common(r, seen, first, last, status)
        start_ms, end_ms = first * WINDOW_MS, (last + 1) * WINDOW_MS

        def make(a: int, b: int) -> Block:
            keys = self.keys.take(pa.array(at[a:b]))
            ids = join("emission-segment:", keys, f":{start_ms}:{end_ms}:{seen.revision}")
            return Block(keys, self._texts(result, at[a:b], common), np.full(b - a, start_ms), ids)

        return parted(len(at), make) if len(at) else []

    def _texts(self, result: Result, at: I64, common: str) -> pa.Array:
        """Values of some of these records."""
        value = result.values(at)
        lo95, hi95 = self.bounds(result, at, value)
        vph, general = result.flow_vph[at], result.traffic.flow_vph[at]
        share = np.where(vph > 0.0, general / np.maximum(vph, 1e-9), 0.0)  # what transit adds is known
        spread = np.exp(Z95 * np.sqrt(result.traffic.flow_log_var[at] + result.chance[at]) * share)
        known = np.isfinite(result.speed_kmh[at])
        value, lo95, hi95 = (np.vstack(pair) for pair in ((value, vph), (lo95, vph / spread), (hi95, vph * spread)))
        speed: tuple[pa.Array | str, ...] = (',"speed_kmh":', significant(np.where(known, result.speed_kmh[at], 0.0)))
        if not known.all():
            speed = (pick(pa.array([',"speed_kmh":']), known - 1), pick(speed[1], np.where(known, np.arange(len(at)), -1)))
        return join(
            '{"segment_id":"', self.names.take(pa.array(at)), '",', common, *emission_text.quantities(value, lo95, hi95, (*OUTPUTS, "flow_vph")),
            _SOURCE_TEXTS.take(pa.array(result.traffic.flow_source[at])), *speed, pick(_ORIGIN_TEXTS, np.where(known, result.origin[at], -1)),
            ',"transit_share":', fixed(result.transit_share[at], 3), "}",
        )  # fmt: skip

    # ----------------------------------------------------------------------- state

    def export(self) -> dict[str, Any]:
        return {
            "flows": self.flows.export(), "crews": self.crews.export(), "surroundings": self.surroundings.export(), "recent": self.recent.export(),
            "pace": self.pace.tobytes(), "pace_windows": self.pace_windows.astype("<i1").tobytes(), "told": self.told,
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        self.flows.restore(data["flows"])
        self.crews.restore(data["crews"])
        self.surroundings.restore(data["surroundings"])
        self.recent.restore(data["recent"])
        self.pace = np.frombuffer(data["pace"], np.float64).copy()
        self.pace_windows = np.frombuffer(data["pace_windows"], "<i1").astype(np.int64)
        self.told = data.get("told", -1)
        self.last_speed, self.flow_vph = np.full(len(self.pace), np.nan), np.full(len(self.pace), np.nan)


def transit_rates(r: Rates, stream: I64, urban: I64, speed_kmh: F64) -> F64:
    """Rates per vehicle and hour (m, 9) of vehicles by stream and speed."""
    table = r.table.rate
    at = np.minimum(speed_kmh / STEP_KMH, table.shape[2] - 1.001)
    i = at.astype(np.int64)
    part = (at - i)[:, None]
    out: F64 = table[stream, urban, i] * (1.0 - part) + table[stream, urban, i + 1] * part
    return out


_ORIGIN_TEXTS = pa.array([f',"speed_origin":"{o}"' for o in ORIGINS])
_SOURCE_TEXTS = pa.array([f',"flow_source":"{s}"' for s in FLOW_SOURCES])
