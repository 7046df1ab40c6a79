export const en = {
  // status
  loading: "loading the network…", live: "live", stale: "stale – no data since {t}", never: "no data yet", quiet: "no new records since {t}", old: "not live – the data is {s} old",
  blind: "vehicle feeds are dead – streets are not measured", waiting: "not ready: {why}", data: "data {t}", age: "{s} old",
  simulated: "SIMULATED DATA – not what is happening in the streets", generated: "GENERATED STREETS – this network is invented, for demonstration only", sim_short: "simulated",
  // frame
  city: "City", language: "Language", theme: "Colours", theme_auto: "Colours: auto", theme_light: "Light", theme_dark: "Dark", search: "Find a street, route or vehicle", close: "Close", nothing: "nothing found",
  views: "Views", view_map: "Map", view_lines: "Lines", view_compare: "Cities", side: "What is going on", share: "Copy link to this view", shared: "copied", loading_short: "loading…",
  map: "Map of street segments, vehicles and situations. Arrow keys move, plus and minus zoom, Enter selects what is under the cross", no_map: "This browser cannot draw the map (WebGL is missing).",
  // legend
  legend: "Legend", layer: "Streets show", layer_los: "Traffic", layer_co2: "CO₂", los: "Level of service (speed / free flow)",
  LA: "A  above 85 %", LB: "B  67–85 %", LC: "C  50–67 %", LD: "D  40–50 %", LE: "E  30–40 %", LF: "F  30 % or less",
  paler: "Paler is less certain", unsure: "low confidence (below {p} %)", inferred: "inferred, not measured", no_origin: "no data", closed: "closed",
  co2_legend: "CO₂ from tailpipes, kg per hour and km of street", co2_bounds: "Wider is more. Bounds that hold for 95 % are shown under the pointer.", co2_past_none: "No CO₂ of this time is kept.",
  vehicles: "Vehicles, by delay", early: "early by over 1 min", on_time: "on time", late: "late 3–10 min", very_late: "late 10 min or more", delay_unknown: "delay not known", situations: "Situations",
  // what is wrong
  wrong_now: "Wrong now", all_well: "Nothing that the feeds and lines tell of.", all_well_then: "Nothing that situations and lines told of at that time.", serious: "serious", middling: "middling", slight: "slight", for: "for",
  bunched_of: "{p} of buses bunched", late_by: "late by {d} (median)", n_vehicles: "{n} vehicles", n_segments: "{n} segments",
  k_incident: "incident", k_roadwork: "roadworks", k_closure: "closure", k_weight_restriction: "weight limit", k_exempted_transport: "special transport", k_transit_alert: "transit alert", k_weather: "weather", k_event: "event", k_information: "information", k_unknown: "situation",
  sev_none: "no effect", sev_low: "low", sev_medium: "medium", sev_high: "high", sev_highest: "highest", sev_unknown: "severity unknown",
  // today
  today_title: "Today and the usual", travel_time_index: "Travel time index (1 = free flow)", co2_kg_h: "CO₂ of the city, kg per hour", day_none: "No figures of the whole city yet; they come a few minutes after the data.",
  latest: "{t}: {v}", bounds95: "95 %: {lo}–{hi}", usual_is: "usually {v} ({n} days)", usual_none: "the usual is not known yet ({n} earlier days of this kind are kept, 2 are needed)",
  this_day: "this day", usual_workday: "usual workday", usual_saturday: "usual Saturday", usual_sunday: "usual Sunday",
  // lines
  only_live: "State of the feeds: known only of now.",
  lines_title: "Lines", lines_none: "No vehicle tells which line it is on.", all_lines: "All lines and string-line diagram", board_title: "All lines", route: "Line", direction: "direction {n}",
  vehicles_short: "Vehicles", delay: "Delay", delay_p90: "Delay, 90 %", bunched: "Bunched", headway_cv: "Headway variation", scheduled: "Scheduled speed", stopped: "Time stopped", speed: "Speed",
  board_told: "Headways, bunching and speeds: product line-fluency. Where it says nothing (–), vehicles and delay are those of the vehicles seen now.", board_untold: "No record of line-fluency yet: vehicles and median delay are those of the vehicles seen now; headways and bunching are not known.",
  string_help: "each line is a run; lines that meet are bunched, flat lines stand still", string_none: "No run of this line was seen in this hour.", string_label: "String-line diagram of line {route}: {n} runs over {km} km, by time and street", trip_of: "run of {t}", show_on_map: "Show on map",
  // panel
  segment: "segment", unnamed: "Street without a name", level: "Level of service", free_flow: "Free flow", ratio: "of free flow", confidence: "Confidence", origin: "Origin", window: "Window", status: "Status", count: "Vehicles seen", data_age: "Data age",
  flow: "Flow", veh_h: "vehicles/h", delay_here: "{s} s over {m} m", co2: "CO₂", sources: "Sources", represents: "Speaks for", limit: "Speed limit", record_status: "State",
  flow_measured: "measured", flow_transferred: "from nearby counts", flow_fundamental_diagram: "from speed", flow_prior: "from the calendar", flow_unknown: "source unknown",
  src_probe: "vehicles", src_loop: "loops", src_memory: "earlier minutes", src_network: "neighbours", sources_2h: "Sources over this time", last_2h: "Speed, last 2 hours, with the band of 20–80 %",
  series_none: "No minute of this street is final yet, or the gateway has only just begun to remember.", series_label: "Speed over the last two hours, {n} minutes", why: "Why this value", why_none: "There is no explanation of this value now.",
  topic: "Topic", record: "Record as JSON", caution_low: "Low confidence: treat as a hint.", caution_inferred: "Not measured here: inferred from neighbours or history.", caution_none: "Nothing informs this segment now. That is not free flow.",
  vehicle: "vehicle", headsign: "To", mode: "Mode", position: "Position by", fix: "Last fix", stop: "Stop", at_stop: "standing at a stop", off_route: "off its route", occupancy: "Occupancy", from_feed: "Feed", line_of_it: "String-line of this line",
  m_bus: "bus", m_tram: "tram", m_train: "train", m_metro: "metro", m_rail: "train, metro", m_ferry: "ferry", m_ubus: "bus", m_robot: "robot bus", m_car: "car", m_unknown: "vehicle",
  p_gnss: "satellites", p_odometer: "odometer", p_dead_reckoning: "dead reckoning", p_snapped: "snapped to the route", p_manual: "by hand", p_unknown: "not known",
  kind: "Kind", severity: "Severity", from: "From", until: "Until", open_end: "until further notice", cause: "Cause", effect: "Effect", routes: "Lines", areas: "Areas", streets: "Streets", told_by: "Told by", segment_of_it: "Street of it",
  measured: "measured", blended: "measured and blended", historical: "from history", none: "none", unknown: "unknown", provisional: "provisional", final: "final", revision: "revision {n}", general_traffic: "general traffic", bus_lane: "bus lane", rail: "rail",
  // feeds
  feeds: "Source feeds", feed: "Feed", lag: "lag", gap: "gap", rejects: "rejected", since: "since", ok: "ok", degraded: "degraded", f_stale: "stale", empty: "empty", dead: "dead", messages: "Messages", doubles: "Doubles", entities: "Vehicles or sites", detail: "Detail",
  feed_dead: "This feed is silent: {n} vehicles of it are shown pale, and nothing new is known of them.",
  // time
  time: "Time", to_live: "Live", back_to_live: "Back to live", hour_ago: "−1 h", play: "Play", pause: "Pause", speed_of_play: "Speed of playing", scrub: "Time that is shown", day: "Day", live_now: "now, live",
  past: "PAST – {t} – this is not live", past_short: "As it was {t}", past_none: "Nothing is kept of this time.", kept_from: "kept since {t}", kept_none: "nothing is kept yet",
  // cities compared
  compare_title: "Cities compared", compare_help: "Fluency: travel time over that in free flow, weighted by vehicle-kilometres. Emissions: CO₂ from tailpipes, with bounds that hold for 95 %.", compare_measure: "Show", compare_by: "by", by_hour: "hour", by_day: "day", csv: "CSV",
  compare_none: "No figures of a whole hour are kept yet.", compare_city_none: "(no figures kept)", compare_caption: "Newest first; coverage: part of the vehicle-kilometres that was measured; told: part of the period that is known.", local_times: "Times: {zone}.",
  co2_g_per_vehicle_km: "CO₂ per vehicle-kilometre, g", period: "Period", delay_veh_h: "Lost, vehicle-hours", co2_per_km: "CO₂, g per vehicle-km (95 %)", co2_kg: "CO₂, kg (95 %)", coverage: "Coverage", known: "Told",
};
