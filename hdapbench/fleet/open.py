"""Fleet specs -> fleets. Recorded, local and remote fleets are opened here too when they come."""

from __future__ import annotations

from hdapbench.fleet.base import Fleet
from hdapbench.fleet.simulated import SimulatedFleet
from hdapbench.spec import FleetSpec


def open_fleet(spec: FleetSpec) -> Fleet:
    """Fleet of a spec.

    Raises
    ------
    FleetError
        When it cannot be made or read.
    """
    return SimulatedFleet(spec)
