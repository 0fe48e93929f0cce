"""Fleet specs -> fleets, and the kinds that this package offers by entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hdapbench.fleet.base import Fleet
from hdapbench.fleet.command.fleet import CommandFleet
from hdapbench.fleet.local.fleet import LocalFleet
from hdapbench.fleet.ray.fleet import RayFleet
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import (
    CommandFleetSpec,
    FleetKind,
    FleetSpec,
    LocalFleetSpec,
    Opening,
    RayFleetSpec,
    RecordedFleetSpec,
    SimulatedFleetSpec,
)
from hdapbench.spec.fleet_kinds import fleet_kind

SIMULATED = FleetKind(SimulatedFleetSpec, lambda spec, _: SimulatedFleet(spec))
RECORDED = FleetKind(RecordedFleetSpec, lambda spec, opening: RecordedFleet(spec, on_lacking=opening.on_lacking))
LOCAL = FleetKind(
    LocalFleetSpec,
    lambda spec, opening: LocalFleet(spec, cache_dir=opening.cache_dir, on_progress=opening.on_progress),
)
COMMAND = FleetKind(
    CommandFleetSpec,
    lambda spec, opening: CommandFleet(spec, cache_dir=opening.cache_dir, on_progress=opening.on_progress),
)
RAY = FleetKind(
    RayFleetSpec,
    lambda spec, opening: RayFleet(spec, cache_dir=opening.cache_dir, on_progress=opening.on_progress),
)


def open_fleet(
    spec: FleetSpec,
    *,
    cache_dir: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    on_lacking: Callable[[dict[str, tuple[int, ...]]], None] | None = None,
) -> Fleet:
    """Fleet of a spec; whoever opens it closes it.

    Parameters
    ----------
    cache_dir
        Where fleets that run models keep the exported ones; None: nowhere for longer than the fleet.
    on_progress
        Told what fleets that run models are doing.
    on_lacking
        Told name and widths of plans that a fleet was asked for and has not recorded.

    Raises
    ------
    FleetError
        When it cannot be made or read.
    PluginError
        When no installed package offers its kind.
    """
    fleet: Fleet = fleet_kind(spec.kind).open(spec, Opening(cache_dir, on_progress, on_lacking))
    return fleet
