"""Traffic emissions: factors, fleets, flow and bounds. Pure functions over arrays; see ``docs/emissions.md``."""
