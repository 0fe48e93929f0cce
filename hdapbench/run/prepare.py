"""Preparation: what all trials of a spec share, made when the first of them needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sized
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from torch import nn

from hdapbench.bench.network import Network, trace
from hdapbench.bench.workbench import Workbench
from hdapbench.data import DataSplits, load_data
from hdapbench.files import locked
from hdapbench.fleet.base import Fleet
from hdapbench.fleet.open import open_fleet
from hdapbench.models import state_hash
from hdapbench.run.dry_pass import try_out
from hdapbench.run.grid import base_directory
from hdapbench.run.listener import Listener
from hdapbench.run.workspace import Workspace
from hdapbench.spec import FleetSpec, LoadedSpec, Spec
from hdapbench.tasks.base import DenseBase, prepare_base
from hdapbench.tasks.checkpoint import Checkpoints
from hdapbench.tasks.device import resolved
from hdapbench.tasks.dry_run import N_IMAGES
from hdapbench.tasks.open import open_task
from hdapbench.tasks.stepper import Setting


class Preparation:
    """Data, base model and trace of a spec, and a workbench for each of its fleets.

    Parameters
    ----------
    loaded
        The spec and where it came from.
    workspace
        Where caches go.
    listener
        Receives progress.
    """

    def __init__(self, loaded: LoadedSpec, workspace: Workspace, listener: Listener) -> None:
        self.loaded, self.workspace, self.listener = loaded, workspace, listener
        self.checkpoints = Checkpoints(workspace.checkpoints, listener.phase)
        self._benches: dict[str, Workbench] = {}
        self._told: set[str] = set()
        self.lacking: dict[str, dict[str, tuple[int, ...]]] = {}
        """Fleet -> name and widths of the plans that it was asked for and has not recorded."""

    @cached_property
    def data(self) -> DataSplits:
        """The data set."""
        self._say_once("reading data")
        with self._made_once("data", self.loaded.spec.data):
            return load_data(
                self.loaded.spec.data,
                self.loaded.spec.model.input_shape,
                base_dir=base_directory(self.loaded),
                cache_dir=self.workspace.cache,
                on_progress=self.listener.progress,
            )

    @cached_property
    def device(self) -> str:
        """Where models are trained and evaluated; what ``auto`` stands for is found out once."""
        return resolved(self.loaded.spec.device)

    @cached_property
    def base(self) -> DenseBase:
        """The dense model, trained or loaded."""
        spec, data = self.loaded.spec, self.data
        self._say_once("preparing the base model")
        for images, labels in data.train.batches(N_IMAGES, shuffle_seed=None, limit=N_IMAGES):
            if len(images) == N_IMAGES:
                try_out(self.loaded, images, labels, n_classes=data.n_classes)
        with self._made_once("base model", spec.model, spec.base, spec.data):
            return prepare_base(
                spec.model,
                spec.base,
                data,
                base_dir=base_directory(self.loaded),
                cache_dir=self.workspace.cache,
                setting=Setting(open_task(spec.task), self.device, checkpoints=self.checkpoints),
                on_epoch=lambda report: self.listener.progress(
                    f"training the base model, epoch {report.epoch}/{report.epochs}, loss {report.loss:.3f}"
                ),
                on_progress=self.listener.phase,
            )

    def _made_once(self, what: str, *parts: BaseModel) -> AbstractContextManager[None]:
        """Let one process make what the caches then have for others."""
        content = json.dumps([part.model_dump(mode="json") for part in parts], sort_keys=True)
        name = hashlib.sha256(f"{what} {base_directory(self.loaded)} {content}".encode()).hexdigest()[:32]
        return locked(
            self.workspace.cache / "locks" / name,
            lambda: self.listener.progress(f"waiting for the {what}, which another process prepares"),
        )

    @cached_property
    def network(self) -> Network:
        """The dense model's trace."""
        model = self.base.model
        self._say_once("tracing the model")
        spec = self.loaded.spec
        return trace(model, spec.model.input_shape, count_products=spec.count_products, attention=spec.model.attention)

    def bench(self, fleet_name: str) -> Workbench:
        """What trials on one fleet of the spec work with."""
        if fleet_name not in self._benches:
            spec, network = self.loaded.spec, self.network
            fleet = self._fleet_spec(fleet_name)
            exports = self.workspace.cache / "exports"
            self._benches[fleet_name] = Workbench(
                network=network,
                train=self.data.train,
                search=self.data.search,
                fleet=open_fleet(
                    fleet.located(base_directory(self.loaded)),
                    cache_dir=exports,
                    on_progress=self.listener.progress,
                    on_lacking=lambda plans: self.lacking.setdefault(fleet_name, {}).update(plans),
                ),
                clustering=fleet.clustering.model_copy(deep=True),
                runs=fleet.runs,
                recipe=spec.fine_tune.model_copy(deep=True),  # methods could reach the spec's
                directory=self.workspace.cache / "weights",
                task_name=spec.task,
                device=self.device,
                checkpoints=self.checkpoints,
            )
        return self._benches[fleet_name]

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.listener.phase(text)

    def dense_state(self) -> tuple[str, list[Any], list[bool]]:
        """Weights, training modes, hooks and gradients of the dense model, in what compares equal."""
        model = self.network.model
        return (
            state_hash(model),
            [(module.training, *map(len, _hooks(module))) for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
        )

    def facts(self, bench: Workbench) -> dict[str, Any]:
        """What a board says of data, base model, groups and fleet; stored with the dense model's result."""
        clusters = bench.measurer.clusters  # first: a fleet that was measured says more about itself
        groups = self.network.group_set
        return {
            "base_hash": self.base.hash,
            "base_origin": _origin(self.loaded.spec, trained=self.base.trained),
            "data_hash": self.data.content_hash,
            "n_classes": self.data.n_classes,
            **({"skipped_files": self.data.n_skipped} if self.data.n_skipped else {}),
            "n_groups": len(groups.groups),
            "frozen_groups": {group.name: group.reason for group in groups.frozen},
            "fleet": self._described(clusters.fleet),
            "n_clusters": clusters.n_clusters,
            "fingerprint_queries": clusters.n_fingerprint_queries,
            "n_measured": clusters.n_measured,
            "estimator": clusters.estimator,
        }

    def _described(self, fleet: Fleet) -> dict[str, str | int | float]:
        """What a fleet says of itself, its file as the spec writes it."""
        told, spec = fleet.describe(), self._fleet_spec(fleet.name)
        if spec.file is not None and spec.file_key in told:
            told[spec.file_key] = spec.file
        return told

    def _fleet_spec(self, name: str) -> FleetSpec:
        return next(fleet for fleet in self.loaded.spec.fleets if fleet.name == name)

    def close(self) -> None:
        """Give back what the fleets hold."""
        for bench in self._benches.values():
            bench.fleet.close()

    def renew(self) -> None:
        """Make anew what lies in memory and foreign code could reach; live fleets keep what they measured."""
        for name in [name for name in self._benches if not self._fleet_spec(name).is_live]:
            self._benches.pop(name).fleet.close()
        if not self._benches:
            self.forget()

    def clustered_anew(self, fleet_name: str) -> bool:
        """Whether a fleet can be clustered without the devices that it lost, which happens when it is next asked."""
        bench = self._benches.get(fleet_name)
        if bench is None or not self._fleet_spec(fleet_name).is_live:
            return False
        bench.measurer.forget_clusters()
        return True

    def forget(self) -> None:
        """Make everything anew when it is next asked for."""
        self.close()
        self._benches.clear()
        for name in ("data", "base", "network"):
            self.__dict__.pop(name, None)


def _origin(spec: Spec, *, trained: bool) -> str:
    """How a base model came about, in words."""
    if not trained:
        return "loaded from weights"
    how = " from weights" if spec.base.start else ""
    return f"trained by the spec's recipe{how}" + (f", taught by {spec.base.teacher.name}" if spec.base.teacher else "")


def _hooks(module: nn.Module) -> tuple[Sized, ...]:
    return module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
