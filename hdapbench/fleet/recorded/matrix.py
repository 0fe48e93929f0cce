"""A latency matrix that grows: a CSV of samples that `recorded` fleets read, and what its plans are beside it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernel_file import kernels_from_dict, kernels_to_dict
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.files import replacing
from hdapbench.spec import ModelSpec

COLUMNS = ("device", "plan", "sample", "latency_ms")
_FORMAT = 1


def name_of_model(model: ModelSpec) -> str:
    """What recordings call a model: its name and the shape of its inputs."""
    return f"{model.name}@{'x'.join(map(str, model.input_shape))}"


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
            known = set()
            for row in rows:
                if None in row or None in row.values():
                    raise self._cut(rows.line_num)
                known.add((row["device"], row["plan"]))
            if not self.path.read_bytes().endswith(b"\n"):
                raise self._cut(rows.line_num)
            return known

    def _cut(self, line: int) -> FleetError:
        return FleetError(
            f"'{self.path}': line {line} is no whole row of {', '.join(COLUMNS)}; remove it, and the same command "
            f"measures again what it held"
        )

    def append(
        self, devices: Sequence[str], plans: Sequence[str], samples_ms: Floats, *, replaces: bool = False
    ) -> None:
        """Add samples of shape (n_devices, n_plans, runs), all or none of them: the file is replaced whole.

        Parameters
        ----------
        replaces
            Whether they take the place of samples of the same devices and plans; otherwise there are none.
        """
        with replacing(self.path) as partial:
            if self.path.exists() and replaces:
                self._copy_without({(device, plan) for device in devices for plan in plans}, partial)
            elif self.path.exists():
                shutil.copyfile(self.path, partial)
            with partial.open("a", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                if not file.tell():
                    rows.writerow(COLUMNS)
                for device, of_device in zip(devices, samples_ms, strict=True):
                    for plan, of_plan in zip(plans, of_device, strict=True):
                        rows.writerows(
                            (device, plan, number, f"{value:.6g}") for number, value in enumerate(of_plan.tolist())
                        )

    def _copy_without(self, cells: set[tuple[str, str]], path: Path) -> None:
        with self.path.open(newline="") as file, path.open("w", newline="") as copy:
            rows, kept = csv.reader(file), csv.writer(copy, lineterminator="\n")
            kept.writerows(row for row in rows if tuple(row[:2]) not in cells)

    @cached_property
    def probes(self) -> tuple[str, ...]:
        """Plans that are the fingerprint, as noted when the first were asked for; empty where nothing is noted."""
        return tuple(map(str, (self._about() or {}).get("probes", ())))

    @property
    def references(self) -> dict[str, float]:
        """Device -> what the reference network took when it was first told, in ms.

        Raises
        ------
        FleetError
            When what is noted is no number.
        """
        try:
            return {str(name): float(ms) for name, ms in (self._about() or {}).get("references", {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise FleetError(f"'{self.plans_path}' is not what hdapbench fleet tell writes") from None

    def model_of(self, plan: str) -> str | None:
        """The model that a plan is of; None where that is not noted."""
        return self._noted.get(plan, (None, None))[0]

    def digest_of(self, plan: str) -> str | None:
        """Digest of the kernels of a plan's model; None where that is not noted."""
        return self._noted.get(plan, (None, None))[1]

    @cached_property
    def _noted(self) -> dict[str, tuple[str, str]]:
        """Plan -> its model, and the digest of that model's kernels."""
        about = self._about()
        if about is None:
            return {}
        known = self.known_plans()
        models = {name: about["plans"][name]["model"] for name in known}
        digests = {models[name]: kernels for name, (kernels, _) in known.items()}
        return {name: (str(model), digests[model].digest) for name, model in models.items()}

    def describe(
        self,
        model: str,
        facts: dict[str, Any],
        kernels: KernelModel,
        plans: dict[str, Integers],
        *,
        probes: Sequence[str] = (),
        references: Mapping[str, float] | None = None,
    ) -> None:
        """Note which model some plans are of, and their widths, beside what is noted already.

        Parameters
        ----------
        facts
            Name, input shape and classes of the model.
        plans
            Name -> widths, shape (n_groups,).
        probes
            Plans that are the fingerprint, where none are noted yet.
        references
            Device -> what the reference network took in ms.
        """
        about = self._about() or {"format": _FORMAT, "models": {}, "plans": {}}
        for name, widths in plans.items():
            about["plans"][name] = {"model": model, "widths": [int(width) for width in widths]}
        removes = any(plan["model"] == model and 0 in plan["widths"] for plan in about["plans"].values())
        about["models"][model] = facts | {"kernels": kernels_to_dict(kernels, with_blocks=removes)}
        if probes and not about.get("probes"):
            about["probes"] = list(probes)
        if references:
            about["references"] = about.get("references", {}) | dict(references)
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
                f"'{self.path}' does not say which widths its plans have: there is no '{self.plans_path.name}' beside "
                f"it. hdapbench fleet measure writes both; a recording made elsewhere cannot calibrate a board"
            )
        try:
            kernels = {name: kernels_from_dict(facts["kernels"]) for name, facts in about["models"].items()}
            return {
                name: (kernels[plan["model"]], np.array(plan["widths"], dtype=np.int64))
                for name, plan in about["plans"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            raise FleetError(f"'{self.plans_path}' is not what hdapbench fleet measure writes") from None

    def _about(self) -> dict[str, Any] | None:
        if not self.plans_path.exists():
            return None
        try:
            about: Any = json.loads(self.plans_path.read_text())
        except (ValueError, RecursionError):
            about = {}
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise FleetError(f"'{self.plans_path}' is not what this hdapbench fleet measure writes")
        return dict(about)
