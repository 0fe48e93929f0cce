"""SavedModel: the compact model of a trial, opened again from its artifact, and the dense one that it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hdapbench.errors import PlanError
from hdapbench.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

DESCRIPTION = "description.json"


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


def open_saved(directory: Path) -> SavedModel:
    """Model of an artifact: the architecture is built anew, cut by the plan, and given the trial's weights.

    Raises
    ------
    PlanError
        When the folder is no artifact, or one of an older version that does not tell the number of classes.
    ModelError
        When the architecture cannot be built any more.
    """
    from hdapbench.models import build_model
    from hdapbench.prune.grouping import find_groups
    from hdapbench.run.artifact import load_artifact

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
    dense = build_model(spec, n_classes=n_classes, base_dir=base_dir).eval()
    compact = load_artifact(directory, dense, find_groups(dense, spec.input_shape)).eval()
    return SavedModel(dense, compact, spec.input_shape)
