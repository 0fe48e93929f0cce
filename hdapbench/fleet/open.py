"""Fleet specs -> fleets."""

from __future__ import annotations

from hdapbench.fleet.base import Fleet
from hdapbench.spec import FleetSpec, SimulatedFleetSpec


def open_fleet(spec: FleetSpec) -> Fleet:
    """Fleet of a spec.

    Raises
    ------
    FleetError
        When it cannot be made or read.
    """
    if isinstance(spec, SimulatedFleetSpec):
        from hdapbench.fleet.simulated import SimulatedFleet

        return SimulatedFleet(spec)
    from hdapbench.fleet.recorded import RecordedFleet

    return RecordedFleet(spec)
