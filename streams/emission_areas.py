"""Records of areas and of transit vehicles: the parts of ``streams/emissions.py`` that sum over cells, the city, and vehicles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from geo.network import F64
from models.clock import rfc3339
from models.emission_records import EmissionVehicle, Quantity
from models.emissions import tables
from models.emissions.bounds import interval
from models.emissions.factors import GUARD_NAMES
from models.emissions.flow import MEASURED, Flow
from models.emissions.rates import OUTPUTS
from models.emissions.segment import guards_at, main_source, of_sums, sums_of
from models.fluency import LOS_GRADES, fluency_columns
from models.records import encode
from streams import emission_text
from streams.areas import Areas
from streams.cells import WINDOW_MS
from streams.figures import rounded, significant, texts
from streams.fleets import CAPACITY, Rates
from streams.outputs import Block, Out
from streams.texts import integers, join, pick
from streams.transit import Driven

if TYPE_CHECKING:
    from streams.emissions import Emitter, Result, Seen

#: Codes of ``models.fusion.ORIGINS`` from which on a speed was measured, now or lately.
BLENDED = 3
#: A vehicle seen for less of the minute than this says too little, milliseconds.
LEAST_MS = 10_000
CO2 = OUTPUTS.index("co2_total")
_SOURCE_NAMES = {"measured": "measured", "transferred": "transferred", "congested_branch": "fundamental_diagram", "calendar_prior": "prior"}


def emissions(emitter: Emitter, first: int, last: int, result: Result, r: Rates, seen: Seen, status: str) -> Block:
    """``emission-area`` of a minute or a block: sums of its segments, stretched to streets that nothing is known of."""
    areas, length_km = emitter.areas, emitter.length_km
    known = np.isfinite(result.speed_kmh) & emitter.general
    usual = np.where(emitter.general, emitter.flows.prior((last + 1) * WINDOW_MS), 0.0) * length_km
    inside, whole = areas.sums(np.where(known, usual, 0.0)), areas.sums(usual)
    expansion: F64 = np.maximum(whole / np.where(inside > 0.0, inside, np.inf), 1.0)
    traffic = replace(result.traffic, flow_log_var=result.traffic.flow_log_var * (1.0 - result.transit_share) ** 2)
    vkm = result.flow_vph * length_km
    measured = (result.origin >= BLENDED) | (result.traffic.flow_source == MEASURED)
    total, covered = areas.sums(vkm), areas.sums(np.where(measured, vkm, 0.0))
    used = np.flatnonzero((r.alone > 0.0).any(axis=0)).tolist()
    fired = np.where(traffic.flow_vph > 0.0, guards_at(traffic.speed_kmh, r.table, used), 0)
    told = known | (result.transit_share > 0.0)
    bits = max(GUARD_NAMES) * 2
    by = areas.by_code(fired + told * bits, 2 * bits)
    counts = np.rint(by[bits:].sum(axis=0)).astype(np.int64)
    guards = [np.rint(by[[k for k in range(2 * bits) if k & bit]].sum(axis=0)).astype(np.int64) for bit in GUARD_NAMES]
    sums = sums_of(result.values, traffic, areas.piece, areas.pieces, areas.order)
    tables, sources = [], []
    for layer, of in zip(areas.layers, areas.parts, strict=True):
        own = sums.over(of, layer.size)
        tables.append(of_sums(own, r.bounds, expansion[layer.begin : layer.begin + layer.size])[:3])
        sources += main_source(own.value[CO2])
    at = np.flatnonzero(counts)
    value, lo95, hi95 = (np.concatenate(t)[at].T for t in zip(*tables, strict=True))
    pct: F64 = 100.0 * covered / np.where(total > 0.0, total, 1.0)
    fired_texts: list[pa.Array | str] = []
    for name, n in zip(GUARD_NAMES.values(), guards, strict=True):
        fired_texts += [f'{"," if fired_texts else ""}"{name}":', integers(n[at])]
    start_ms, end_ms = first * WINDOW_MS, (last + 1) * WINDOW_MS
    keys, named = emitter.area_texts.keys.take(pa.array(at)), emitter.area_texts.named.take(pa.array(at))
    values = join(
        "{", named, ',"segments":', integers(counts[at]), ',"coverage_expansion":', texts(np.round(expansion[at], 6)),
        ',"coverage_pct":', texts(np.round(pct[at], 1)), ',"vehicle_km_h":', significant((total * expansion)[at]),
        ',"flow_source":"', pa.array([_SOURCE_NAMES[sources[a]] for a in at.tolist()], pa.string()), '","guards":{', *fired_texts, "},",
        emitter.common(r, seen, first, last, status), *emission_text.quantities(value, lo95, hi95), "}",
    )  # fmt: skip
    return Block(keys, values, np.full(len(at), start_ms), join("emission-area:", keys, f":{start_ms}:{end_ms}:{seen.revision}"))


def states(emitter: Emitter, w: int, seen: Seen, d: Driven, flow: Flow, speed: F64, status: str) -> Block:
    """``area-state`` of a window; before it is final, what nothing new has been heard of is as it was last."""
    areas = emitter.areas
    general, length_km = emitter.general, emitter.length_km
    known = np.isfinite(speed) & general
    ratio = np.where(known, speed / emitter.free_flow_kmh, 0.0)
    los = np.where(known, fluency_columns(np.round(np.nan_to_num(ratio), 3))[0], len(LOS_GRADES))
    km = areas.by_code(los, len(LOS_GRADES) + 1, np.where(general, length_km, 0.0))
    vkm = np.where(known, flow.flow_vph * length_km, 0.0)
    vh = np.where(known, flow.density_vpkm * length_km, 0.0)
    free_h = vkm / emitter.free_flow_kmh
    distance, time, free, lost = (areas.sums(x) for x in (vkm, vh, free_h, np.maximum(vh - free_h, 0.0)))
    origin, confidence = emitter.origin.copy(), emitter.confidence.copy()
    origin[seen.rows], confidence[seen.rows] = seen.estimate.origin, seen.estimate.confidence
    covered = areas.sums(np.where((origin >= BLENDED) | (flow.source == MEASURED), vkm, 0.0))
    sure = areas.sums(vkm * np.where(known, confidence, 0.0))
    vehicles = np.array(areas.distinct(d.segment, d.vehicle), np.int64)
    start_ms = w * WINDOW_MS
    at = np.flatnonzero(emitter.area_counts)
    some = distance[at] > 0.0

    def share(part: F64, whole: F64, digits: int) -> F64:
        """Rounded; NaN where there is nothing to be a part of."""
        ratio: F64 = part[at] / np.where(whole[at] > 0.0, whole[at], 1.0)
        return np.round(np.where(some, ratio, np.nan), digits).astype(np.float64)

    grades: list[pa.Array | str] = []
    for name, column in zip((*LOS_GRADES, "unknown"), km, strict=True):
        grades += [f'{"," if grades else ""}"{name}":', texts(np.round(column[at], 3))]
    whole = np.ones(len(distance))
    keys = emitter.area_texts.keys.take(pa.array(at))
    values = join(
        "{", emitter.area_texts.kinds.take(pa.array(at)), f',"window_start":"{rfc3339(start_ms)}","window_end":"{rfc3339(start_ms + WINDOW_MS)}"',
        f',"status":"{status}","revision":{seen.revision},"km_by_los":{{', *grades, '},"coverage_pct":', texts(np.nan_to_num(share(100.0 * covered, distance, 1))),
        ',"vehicles":', integers(vehicles[at]), ',"segments":', integers(emitter.area_counts[at]), ',"confidence":', texts(np.nan_to_num(share(sure, distance, 3))),
        *_optional("travel_time_index", np.maximum(share(time, free, 3), 0.0)), *_optional("vehicle_km_h", share(distance, whole, 2)),
        *_optional("delay_veh_h", share(lost, whole, 3)), *_optional("vehicle_h_h", share(time, whole, 3)),
        emitter.area_texts.named_last.take(pa.array(at)), ',"simulated":true}' if seen.simulated else "}",
    )  # fmt: skip
    return Block(keys, values, np.full(len(at), start_ms), join("area-state:", keys, f":{start_ms}:{seen.revision}"))


def _optional(name: str, values: F64) -> tuple[pa.Array, pa.Array]:
    """A field that is left out where it is NaN, as parts of records."""
    return pick(pa.array([f',"{name}":']), -np.isnan(values).astype(np.int64)), texts(values)


class Texts:
    """What records of each area say of it."""

    def __init__(self, areas: Areas) -> None:
        self.keys = pa.array(areas.area_id, pa.string())
        each = list(zip(areas.area_id, areas.kind, areas.name, strict=True))
        self.kinds, self.named = (
            pa.array(
                [
                    emission_text.fields({"area_id": i, "area_kind": kind} | ({"area_name": name} if with_name else {}))
                    for i, kind, name in each
                ]
            )
            for with_name in (False, True)
        )
        self.named_last = pa.array([name and "," + emission_text.fields({"area_name": name}) for _, _, name in each], pa.string())


def vehicles(emitter: Emitter, w: int, d: Driven, r: Rates, seen: Seen, status: str) -> list[Out]:
    """``emission-vehicle`` of a window: each road vehicle at its own mean speed."""
    from streams.emissions import transit_rates

    shown = np.flatnonzero(d.total_ms >= LEAST_MS)
    if not len(shown):
        return []
    urban = np.zeros(len(d.vehicle_id), np.int64)  # of most of its time
    np.add.at(urban, d.vehicle, np.where(emitter.urban[d.segment], d.time_ms, -d.time_ms))
    urban = (urban >= 0).astype(np.int64)
    speed = d.speed_kmh
    told = [emitter.powertrain(v) for v in d.vehicle_id]
    kind = [k if k in r.transit else "mix" for k, _ in told]
    value = transit_rates(r, np.array([r.transit[k] for k in kind], np.int64), urban, speed)
    low, high = np.full_like(value, np.inf), np.zeros_like(value)
    log_sd = np.sqrt(r.bounds.shared**2 + r.bounds.speed**2)
    for name in sorted(set(kind)):
        mine = np.array([k for k, x in enumerate(kind) if x == name], np.int64)
        for stream in r.transit_range.get(name, ()) if len(mine) else ():
            one = transit_rates(r, np.full(len(mine), stream), urban[mine], speed[mine])
            lo, hi = interval(one, log_sd)
            low[mine], high[mine] = np.minimum(low[mine], lo), np.maximum(high[mine], hi)
    value, low, high = (
        rounded(value),
        rounded(np.minimum(low, value)),
        rounded(np.maximum(high, value)),
    )
    start_ms, end_ms = w * WINDOW_MS, (w + 1) * WINDOW_MS
    start, end, c, grid_time = rfc3339(start_ms), rfc3339(end_ms), r.conditions, emitter.grid_time(end_ms)
    share = np.array(d.occupancy_pct)
    on_board = np.rint(CAPACITY * np.maximum(share, 0.0) / 100.0)
    moving = speed >= 1.0
    co2, energy = OUTPUTS.index("co2_total"), OUTPUTS.index("energy")
    km = np.where(moving, speed, 1.0)
    people = np.maximum(on_board, 1.0) * km
    three = {o: (value[:, p], low[:, p], high[:, p]) for p, o in enumerate(OUTPUTS)}
    three["energy_kwh_km"] = (value[:, energy] / 3.6 / km, low[:, energy] / 3.6 / km, high[:, energy] / 3.6 / km)
    three["co2_total_g_per_passenger_km"] = (value[:, co2] / people, low[:, co2] / people, high[:, co2] / people)
    three["energy_kwh_per_passenger_km"] = (value[:, energy] / 3.6 / people, low[:, energy] / 3.6 / people, high[:, energy] / 3.6 / people)
    columns = {name: np.column_stack([rounded(x) for x in xs]).tolist() for name, xs in three.items()}
    out = []
    for k in shown.tolist():
        who, known = d.vehicle_id[k], d.occupancy_pct[k] >= 0.0
        said = {name: Quantity(value=xs[k][0], lo95=xs[k][1], hi95=xs[k][2]) for name, xs in columns.items()}
        if not moving[k]:
            del said["energy_kwh_km"]
        if not (moving[k] and on_board[k]):
            del said["co2_total_g_per_passenger_km"], said["energy_kwh_per_passenger_km"]
        record = EmissionVehicle(
            vehicle_id=who, mode=d.mode[k], window_start=start, window_end=end, status=status, revision=seen.revision,  # type: ignore[arg-type]
            distance_m=round(int(d.total_mm[k]) / 1000.0, 1), time_s=round(int(d.total_ms[k]) / 1000.0, 1), speed_kmh=round(float(speed[k]), 2),
            powertrain=kind[k].partition(":")[0], euro=kind[k].partition(":")[2] or None, powertrain_source="fleet_mix" if kind[k] == "mix" else "register",  # type: ignore[arg-type]
            powertrain_basis=None if kind[k] == "mix" else told[k][1],
            occupancy_pct=d.occupancy_pct[k] if known else None, capacity=CAPACITY if known else None,
            fleet_mix=r.fleet_mix, factor_set=r.table.factor_set, factor_rows=r.factor_rows, scope=tables.SCOPE,
            temperature_c=c.temperature_c, temperature_source=c.temperature_source, grid_g_per_kwh=c.grid_g_per_kwh,  # type: ignore[arg-type]
            grid_source=c.grid_source, grid_time=grid_time, simulated=True if seen.simulated else None, **said,  # type: ignore[arg-type]
        )  # fmt: skip
        out.append(Out(who.encode(), encode(record), start_ms, f"emission-vehicle:{who}:{start_ms}:{seen.revision}"))
    return out
