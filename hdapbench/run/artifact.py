"""Compressed models on disk: plan, weights and description, written and opened again. Never a pickled module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from hdapbench.data import DataSplits, ImageSet
from hdapbench.errors import ModelError, PlanError
from hdapbench.files import replacing
from hdapbench.groups import GroupSet
from hdapbench.models import build_model, kept_state, write_tensors
from hdapbench.models.user_code import refuse_code
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.prune.trace import find_groups
from hdapbench.spec import ModelSpec

PLAN, STATE, DESCRIPTION = "plan.json", "state.pt", "description.json"
STATE_HASH = "state_sha256"
"""Key of a description that tells the weights' hash, by which damage is found."""

ONNX = "model.onnx"
"""File of a plan that brings one."""


def save_artifact(directory: Path, *, plan: Plan, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Write a compact model as ``plan.json``, ``state.pt`` and ``description.json``.

    Each file is replaced in one step, so that an interrupted write leaves the old one.
    """
    write_tensors(model.state_dict(), directory / STATE)
    for name, text in ((PLAN, plan.canonical_json()), (DESCRIPTION, json.dumps(description, indent=2, sort_keys=True))):
        with replacing(directory / name) as partial:
            partial.write_text(text + "\n")


def load_plan(directory: Path) -> Plan:
    """Plan of an artifact.

    Raises
    ------
    PlanError
        When there is none, or it is not a plan.
    """
    path = directory / PLAN
    try:
        return Plan.model_validate_json(path.read_bytes())
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
        state = kept_state(path, expected=_state_hash(directory))
    except FileNotFoundError:
        raise PlanError(f"'{directory}' holds no {STATE}: it is not an artifact") from None
    if state is None:
        raise PlanError(f"'{path}' does not hold the weights of this plan: it is damaged")
    try:
        compact.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise PlanError(f"'{path}' does not hold the weights of this plan: {text}") from error
    return compact


def _state_hash(directory: Path) -> str | None:
    """Hash of the weights that were written; None where the description does not tell it, as older ones."""
    try:
        found = json.loads((directory / DESCRIPTION).read_text())[STATE_HASH]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(found)


MOST_CLASSES = 1_000_000
"""More than any data set has: a description that tells of more is damaged."""


@dataclass(frozen=True)
class SavedModel:
    """A trial's model.

    Attributes
    ----------
    dense
        The architecture before compression, with random weights.
    compact
        The compressed model with the weights of the trial, in evaluation mode.
    input_shape
        Channels, height and width.
    """

    dense: nn.Module
    compact: nn.Module
    input_shape: tuple[int, int, int]


def describe_model(spec: ModelSpec, *, n_classes: int, base_dir: Path) -> dict[str, Any]:
    """What `open_saved` needs to know about the architecture, as plain values for a description."""
    return {"model": spec.model_dump(mode="json"), "n_classes": n_classes, "base_dir": str(base_dir)}


def describe_data(data: DataSplits) -> dict[str, Any]:
    """What a model's user needs to know about its data, as plain values for a description: classes, normalisation."""
    known: dict[str, Any] = {"class_names": list(data.class_names)}
    if isinstance(data.train, ImageSet):
        known |= {"mean": list(data.train.mean), "std": list(data.train.std)}
    return known


def metadata(directory: Path, trial_id: str) -> dict[str, str]:
    """Metadata for a file of an artifact's model: its trial, and classes and normalisation where they are known."""
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        known = {
            name: json.dumps(description[name]) for name in ("class_names", "mean", "std") if description.get(name)
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        known = {}
    pixels = {"pixels": "divided by 255, minus mean, divided by std"} if "mean" in known else {}
    return {"trial": trial_id} | pixels | known


def open_saved(directory: Path, *, trusted: bool = False) -> SavedModel:
    """Model of an artifact: the architecture is built anew, cut by the plan, and given the trial's weights.

    Parameters
    ----------
    trusted
        Whether code may be run that the artifact names.

    Raises
    ------
    PlanError
        When the folder is no artifact, or one of an older version that does not tell the number of classes.
    ModelError
        When the architecture cannot be built any more, or is code and the artifact not trusted.
    """
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        spec = ModelSpec.model_validate_json(json.dumps(description["model"]))
        n_classes, base_dir = int(description["n_classes"]), Path(description["base_dir"])
    except FileNotFoundError:
        raise PlanError(f"'{directory}' holds no {DESCRIPTION}: it is not an artifact") from None
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise PlanError(
            f"'{directory / DESCRIPTION}' does not tell the model and its classes ({type(error).__name__}: {error}); "
            "it is of an older version: run the trial again in a new workspace"
        ) from None
    if not trusted:
        refuse_code(spec.name, told_by=directory / DESCRIPTION)
    if not 0 < n_classes <= MOST_CLASSES:
        raise PlanError(f"'{directory / DESCRIPTION}' tells of {n_classes:,} classes: it is damaged")
    try:
        dense = build_model(spec, n_classes=n_classes, base_dir=base_dir).eval()
        groups = find_groups(dense, spec.input_shape, attention=spec.attention)
    except (RuntimeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"the model of '{directory / DESCRIPTION}' cannot be built: {text}") from error
    compact = load_artifact(directory, dense, groups).eval()
    return SavedModel(dense, compact, spec.input_shape)
