"""The targets and methods of a spec: the grid of its trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hdapbench.spec.base import Problems, Strict, sequence_to_tuple
from hdapbench.spec.units import JOINT, parse_flops, parse_target

Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...], BeforeValidator(sequence_to_tuple)]


def shorthand(value: object) -> object:
    """A method that is only named, with its defaults."""
    return {"name": value} if isinstance(value, str) else value


def _check_flops(value: object) -> object:
    """Text of a FLOPs target; a bare whole number is accepted too."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        parse_flops(value)
    return value


class TargetSpec(Strict):
    """What a compressed model must not exceed: FLOPs, size, cycles, latency, RAM or flash. Several hold all at once."""

    flops: Annotated[str | None, BeforeValidator(_check_flops)] = Field(
        default=None, description="Multiply-accumulates: relative to the dense model (0.5x) or absolute (1.0G)."
    )
    size: str | None = Field(
        default=None,
        description="What a device stores: relative to the dense model at 8 bits (0.3x) or absolute (20kB).",
    )
    cycles: str | None = Field(
        default=None, description="Cycles on `core`: relative to the dense model at 8 bits (0.5x) or absolute (100k)."
    )
    core: Literal["ne16", "mpic"] = Field(default="ne16", description="Processor whose cycles `cycles` limits.")
    latency: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Average clustered latency: relative to the dense model on that fleet (0.8x) or absolute (4.2ms).",
    )

    ram: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Peak RAM of generated C code: relative to the dense model at 8 bits (0.5x) or absolute (64kB).",
    )
    flash: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Flash of generated C code: relative to the dense model at 8 bits (0.5x) or absolute (32kB).",
    )

    @model_validator(mode="after")
    def _some_limit(self) -> TargetSpec:
        if not self._limits:
            raise ValueError("a target limits one or more of flops, size, cycles, latency, ram and flash; got none")
        parse_target(self.text)  # says what is wrong with it
        return self

    @property
    def _limits(self) -> dict[str, str]:
        """Kind of limit -> amount."""
        given = {"size": self.size, self.core: self.cycles, "latency": self.latency, "ram": self.ram}
        given = {"flops": self.flops} | given | {"flash": self.flash}
        return {kind: amount for kind, amount in given.items() if amount is not None}

    @property
    def text(self) -> str:
        """The one text of this target, whatever way it was written: ``0.5x``, ``0.5x ne16 + 64kB ram``."""
        return str(parse_target(JOINT.join(f"{amount} {kind}" for kind, amount in self._limits.items())))


class MethodSpec(Strict):
    """A method and its parameters. A list as a parameter's value makes one trial per entry."""

    name: str = Field(min_length=1, description="A name that `hdapbench methods` lists.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The method's parameters.")
    targets: Annotated[tuple[TargetSpec, ...] | None, BeforeValidator(sequence_to_tuple)] = Field(
        default=None,
        min_length=1,
        exclude_if=lambda value: value is None,
        description="Those of the spec's targets that this entry is run at; null runs it at all.",
    )

    seeds: Seeds | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda value: value is None,
        description="Those of the spec's seeds that this entry is run with; null runs it with all.",
    )

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the parameters that are lists, in the order written."""
        names = list(self.parameters)
        choices = [value if isinstance(value, list) else [value] for value in self.parameters.values()]
        return [dict(zip(names, combination, strict=True)) for combination in product(*choices)]


def repeated_trials(methods: Sequence[MethodSpec], targets: Sequence[TargetSpec], seeds: Sequence[int]) -> Problems:
    """Entries of methods that make trials which an entry before them makes."""
    first: dict[str, int] = {}
    problems: Problems = []
    for number, method in enumerate(methods):
        texts = [target.text for target in method.targets or targets]
        own = list(product(map(str, texts), method.seeds or seeds))
        trials = [json.dumps([method.name, p, t, seed], default=str) for p in method.grid() for t, seed in own]
        before = next((first[trial] for trial in trials if trial in first), None)
        if before is not None:
            problems.append((("methods", number), f"{method.name} repeats trials of methods[{before}]; remove one"))
        first |= {trial: number for trial in trials if trial not in first}
    return problems


def unknown_parts(methods: Sequence[MethodSpec], targets: Sequence[TargetSpec], seeds: Sequence[int]) -> Problems:
    """Targets and seeds of methods that the spec does not have."""
    problems: Problems = []
    for key, known in (("targets", [target.text for target in targets]), ("seeds", [str(seed) for seed in seeds])):
        for number, method in enumerate(methods):
            named = (
                [target.text for target in method.targets or ()] if key == "targets" else map(str, method.seeds or ())
            )
            problems += [
                (("methods", number, key, place), f"{value} is not in {key}; known: {', '.join(known)}")
                for place, value in enumerate(named)
                if value not in known
            ]
    return problems
