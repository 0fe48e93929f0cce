"""What runs a model when its latency is really measured, and what is timed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticKnownError

from hdapbench.spec.base import Strict
from hdapbench.spec.plugins import plugin_names

GROUP = "hdapbench.runtimes"
"""Entry point group under which packages offer runtimes."""

BUILT_IN = ("onnxruntime", "eager", "compile")


def _known(name: object, info: ValidationInfo) -> object:
    """The name, when an installed package offers it; JSON is taken for stored, where that need not be so."""
    if info.mode == "json" or name in BUILT_IN or name in (offered := plugin_names(GROUP)):
        return name
    *first, last = map(repr, dict.fromkeys((*BUILT_IN, *offered)))
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})


class RuntimeSpec(Strict):
    """Runtime, threads, arithmetic and timing boundary: two latencies compare only where all of these agree."""

    runtime: Annotated[str, BeforeValidator(_known)] = Field(
        default="onnxruntime",
        json_schema_extra={"enum": list(BUILT_IN)},
        description="onnxruntime, as models are deployed; eager (torch) or compile (torch.compile).",
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of the runtime; leave a core to the others.")
    batch: int = Field(default=1, ge=1, le=4096, description="Inputs per run.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Arithmetic of weights and activations; bf16 is for eager and compile."
    )
    boundary: Literal["engine", "copies", "end_to_end"] = Field(
        default="engine",
        description="What is timed: the engine with inputs in place; copies of inputs and outputs as well; or "
        "end_to_end, from 8-bit pixels to the index of the largest output.",
    )
    graph_optimization: Literal["all", "extended", "basic", "none"] = Field(
        default="all", description="Graph optimisation of onnxruntime."
    )
    isa: Literal["native", "avx2", "sse41"] = Field(
        default="native", description="Widest x86 instructions that torch may use; onnxruntime always takes the widest."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> RuntimeSpec:
        wrong = []
        if self.runtime == "onnxruntime":
            if self.precision != "fp32":
                wrong.append(f"onnxruntime's processor kernels have no {self.precision}; take runtime: eager")
            if self.isa != "native":
                wrong.append(f"onnxruntime has no switch for isa: {self.isa}; take runtime: eager")
        elif self.graph_optimization != "all":
            wrong.append(f"graph_optimization is onnxruntime's; remove it, or take it instead of {self.runtime}")
        if self.precision == "bf16" and self.isa != "native":
            wrong.append(f"isa: {self.isa} has no bf16 instructions; take isa: native or precision: fp32")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def text(self) -> str:
        """One line that names what differs between two runtimes: ``onnxruntime, 1 thread, batch 1, fp32, engine``."""
        parts = [self.runtime, f"{self.threads} thread{'s' * (self.threads > 1)}", f"batch {self.batch}"]
        parts += [self.precision, self.boundary.replace("_", " ")]
        if self.graph_optimization != "all":
            parts.append(f"graph optimisation {self.graph_optimization}")
        if self.isa != "native":
            parts.append(self.isa)
        return ", ".join(parts)
