"""Compressed models on disk: plan, weights and description. Never a pickled module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from hdapbench.errors import PlanError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan

PLAN, STATE, DESCRIPTION = "plan.json", "state.pt", "description.json"
ONNX = "model.onnx"
"""File of a plan that brings one."""


def save_artifact(directory: Path, *, plan: Plan, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Write a compact model as ``plan.json``, ``state.pt`` and ``description.json``.

    Each file is replaced in one step, so that an interrupted write leaves the old one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{STATE}.partial"
    torch.save(model.state_dict(), partial)
    partial.replace(directory / STATE)
    for name, text in ((PLAN, plan.canonical_json()), (DESCRIPTION, json.dumps(description, indent=2, sort_keys=True))):
        partial = directory / f"{name}.partial"
        partial.write_text(text + "\n")
        partial.replace(directory / name)


def load_plan(directory: Path) -> Plan:
    """Plan of an artifact.

    Raises
    ------
    PlanError
        When there is none, or it is not a plan.
    """
    path = directory / PLAN
    try:
        return Plan.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise PlanError(f"'{directory}' holds no {PLAN}: it is not an artifact") from None
    except ValidationError as error:
        raise PlanError(f"'{path}' is not a plan: {error.error_count()} problems") from None


def load_artifact(directory: Path, dense: nn.Module, groups: GroupSet) -> nn.Module:
    """Compact model of an artifact, rebuilt from the dense architecture.

    Parameters
    ----------
    dense
        Model of the same architecture; its weights do not matter.
    groups
        Channel groups of ``dense``.

    Raises
    ------
    PlanError
        When the plan does not fit the architecture, or the weights do not fit the plan.
    """
    compact = apply_plan(dense, groups, load_plan(directory))
    path = directory / STATE
    try:
        compact.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"), strict=True)
    except FileNotFoundError:
        raise PlanError(f"'{directory}' holds no {STATE}: it is not an artifact") from None
    except (OSError, EOFError, RuntimeError, TypeError, UnpicklingError) as error:
        text = " ".join(str(error).split())[:200]
        raise PlanError(f"'{path}' does not hold the weights of this plan: {text}") from error
    return compact
