"""Fleet specs -> fleets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hdapbench.fleet.base import Fleet
from hdapbench.spec import FleetSpec, LocalFleetSpec, SimulatedFleetSpec


def open_fleet(
    spec: FleetSpec, *, cache_dir: Path | None = None, on_progress: Callable[[str], None] | None = None
) -> Fleet:
    """Fleet of a spec; whoever opens it closes it.

    Parameters
    ----------
    cache_dir
        Where fleets that run models keep the exported ones; None: nowhere for longer than the fleet.
    on_progress
        Told what fleets that run models are doing.

    Raises
    ------
    FleetError
        When it cannot be made or read.
    """
    if isinstance(spec, SimulatedFleetSpec):
        from hdapbench.fleet.simulated.fleet import SimulatedFleet

        return SimulatedFleet(spec)
    if isinstance(spec, LocalFleetSpec):
        from hdapbench.fleet.local.fleet import LocalFleet

        return LocalFleet(spec, cache_dir=cache_dir, on_progress=on_progress)
    from hdapbench.fleet.recorded.fleet import RecordedFleet

    return RecordedFleet(spec)
