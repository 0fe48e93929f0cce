"""A kind of fleet of another package: boards whose latency is the number of kept channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.spec import FleetKind, FleetSpec


class FarmSpec(FleetSpec):
    """Boards in a farm, each slower than the one before."""

    not_in_ids: ClassVar[frozenset[str]] = frozenset({"door"})

    kind: Literal["leading-farm"] = Field(description="Where latencies come from.")
    n_boards: int = Field(ge=1, description="Number of boards.")
    gate: str | None = Field(default=None, description="Command that opens the farm.")
    door: int = Field(default=1, description="By which door it is entered.")

    def code(self, folder: Path) -> tuple[str, dict[str, Any]] | None:
        """The command, where there is one."""
        return None if self.gate is None else (self.gate, {})


class Farm(Fleet):
    """Boards of a farm."""

    source: LatencySource = "measured"

    def __init__(self, spec: FarmSpec) -> None:
        if spec.n_boards > 100:
            raise FleetError(f"the farm has 100 boards, not {spec.n_boards}; ask for fewer")
        self.name = spec.name
        self.device_ids = tuple(f"board-{number}" for number in range(spec.n_boards))

    def describe(self) -> dict[str, str | int | float]:
        """Kind and size."""
        return {"kind": "leading-farm", "n_devices": self.n_devices}

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """A microsecond per channel, and a tenth more for each board before."""
        latency = (1 + devices[:, None] / 10) * workloads.widths.sum(axis=1) / 1000
        return np.repeat(latency[:, :, None], runs, axis=2)


FARM = FleetKind(FarmSpec, lambda spec, _: Farm(spec))
