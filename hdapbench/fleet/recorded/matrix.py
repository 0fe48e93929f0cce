"""A latency matrix that grows: a CSV of samples that `recorded` fleets read, and what its plans are beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernel_file import kernels_from_dict, kernels_to_dict
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.files import replacing

COLUMNS = ("device", "plan", "sample", "latency_ms")
_FORMAT = 1


@dataclass(frozen=True)
class LatencyMatrix:
    """A CSV file of samples, one per row.

    Attributes
    ----------
    path
        The file; what its plans are stands in one of the same name that ends in ``.plans.json``.
    """

    path: Path

    @property
    def plans_path(self) -> Path:
        """File that says which widths of which model each plan is."""
        return self.path.with_suffix(".plans.json")

    def measured(self) -> set[tuple[str, str]]:
        """Pairs of device and plan that have rows.

        Raises
        ------
        FleetError
            When the file is of another layout.
        """
        if not self.path.exists():
            return set()
        with self.path.open(newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise FleetError(
                    f"'{self.path}' has other columns than {', '.join(COLUMNS)}; name another file with -o"
                )
            return {(row["device"], row["plan"]) for row in rows if row["latency_ms"]}

    def append(self, devices: Sequence[str], plans: Sequence[str], samples_ms: Floats) -> None:
        """Add samples of shape (n_devices, n_plans, runs), all or none of them."""
        fresh = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [",".join(COLUMNS)] if fresh else []
        for device, of_device in zip(devices, samples_ms, strict=True):
            for plan, of_plan in zip(plans, of_device, strict=True):
                lines += [f"{device},{plan},{number},{value:.6g}" for number, value in enumerate(of_plan.tolist())]
        with self.path.open("a") as file:
            file.write("\n".join(lines) + "\n")

    def describe(self, model: str, facts: dict[str, Any], kernels: KernelModel, plans: dict[str, Integers]) -> None:
        """Note which model some plans are of, and their widths, beside what is noted already.

        Parameters
        ----------
        facts
            Name, input shape and classes of the model.
        plans
            Name -> widths, shape (n_groups,).
        """
        about = self._about() or {"format": _FORMAT, "models": {}, "plans": {}}
        about["models"][model] = facts | {"kernels": kernels_to_dict(kernels)}
        for name, widths in plans.items():
            about["plans"][name] = {"model": model, "widths": [int(width) for width in widths]}
        with replacing(self.plans_path) as partial:
            partial.write_text(json.dumps(about))

    def known_plans(self) -> dict[str, tuple[KernelModel, Integers]]:
        """Name of each described plan -> kernels of its model, and widths of shape (n_groups,).

        Raises
        ------
        FleetError
            When nothing is described, or not by this package.
        """
        about = self._about()
        if about is None:
            raise FleetError(
                f"there is no '{self.plans_path}', which says what the plans in '{self.path}' are; hdapbench fleet "
                f"measure writes both"
            )
        try:
            kernels = {name: kernels_from_dict(facts["kernels"]) for name, facts in about["models"].items()}
            return {
                name: (kernels[plan["model"]], np.array(plan["widths"], dtype=np.int64))
                for name, plan in about["plans"].items()
            }
        except (KeyError, TypeError):
            raise FleetError(f"'{self.plans_path}' is not what hdapbench fleet measure writes") from None

    def _about(self) -> dict[str, Any] | None:
        if not self.plans_path.exists():
            return None
        try:
            about: dict[str, Any] = json.loads(self.plans_path.read_text())
        except ValueError:
            about = {}
        if about.get("format") != _FORMAT:
            raise FleetError(f"'{self.plans_path}' is not what this hdapbench fleet measure writes")
        return about
