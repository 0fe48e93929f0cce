"""Plan: what a method decides. Plain data, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field

from hdapbench.errors import PlanError


def name_of_widths(widths: Iterable[int]) -> str:
    """What a fleet calls the plans that keep so many channels of each group: ``w8-16``."""
    return "w" + "-".join(str(int(width)) for width in widths)


class Plan(BaseModel):
    """The channels kept in every group, and optionally bit-widths and trained weights.

    Attributes
    ----------
    kept
        Channel group -> indices of the kept channels, ascending, without repeats. Every group of the model has an
        entry. It is empty only where a residual block is removed: then those of all its groups are.
    weight_bits
        Layer -> bits of each output channel that is kept, 2 to 8. Empty for float models.
    activation_bits
        Quantised operation (named as in `hdapbench.quant.graph.graph`) -> bits of its output; 8 where absent.
    weights
        Handle of trained weights in the dense model's shapes, from ``Problem.keep_weights``;
        None means the base model's own weights.
    file
        Handle of a finished ONNX file, from ``Problem.quantized_after_training``. It is what is tested, through
        onnxruntime and as it stands: it is not fine-tuned. The rest of the plan says what is in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kept: Mapping[str, tuple[int, ...]]
    weight_bits: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)
    activation_bits: Mapping[str, int] = Field(default_factory=dict)
    weights: str | None = None
    # Left out where there is none: the ids of older plans stay what they were.
    file: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that depend on the content alone."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def canonical_json(self) -> str:
        """JSON with sorted groups and layers, the same text for equal plans."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def widths(self, groups: Sequence[str]) -> tuple[int, ...]:
        """Number of kept channels of each of ``groups``, in that order."""
        return tuple(len(self.kept[name]) for name in groups)

    def check(self, sizes: Mapping[str, int], removable: Iterable[Collection[str]] = ()) -> None:
        """Raise `PlanError` unless the plan fits groups of these sizes exactly.

        Parameters
        ----------
        sizes
            Channel group -> number of channels in the dense model.
        removable
            Groups of each residual block that can be removed.

        Raises
        ------
        PlanError
            With every mismatch, one per line.
        """
        problems = [f"group '{name}' is not planned" for name in sizes if name not in self.kept]
        removed = {name for names in removable if not any(self.kept.get(n, (0,)) for n in names) for name in names}
        if removed and (self.weight_bits or self.activation_bits or self.file is not None):
            problems.append(
                f"the residual block of {', '.join(sorted(removed))} is removed: with bit-widths, all blocks must stay"
            )
        for name, kept in self.kept.items():
            if name not in sizes:
                problems.append(f"group '{name}' does not exist in the model")
            elif name in removed:
                continue
            elif not kept:
                problems.append(f"group '{name}' keeps no channel; at least one must stay")
            elif any(later <= earlier for earlier, later in pairwise(kept)):
                problems.append(f"group '{name}': kept channels must ascend without repeats")
            elif kept[0] < 0 or kept[-1] >= sizes[name]:
                problems.append(f"group '{name}': channels {kept[0]}..{kept[-1]} outside 0..{sizes[name] - 1}")
        if problems:
            raise PlanError("\n".join(problems))
