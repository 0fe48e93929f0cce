"""A kind of fleet of another package: boards whose latency is the number of kept channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.spec import FleetKind, FleetSpec


class FarmSpec(FleetSpec):
    """Boards in a farm, each slower than the one before."""

    kind: Literal["leading-farm"] = Field(description="Where latencies come from.")
    n_boards: int = Field(ge=1, description="Number of boards.")


class Farm(Fleet):
    """Boards of a farm."""

    source: LatencySource = "measured"

    def __init__(self, spec: FarmSpec) -> None:
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
