from __future__ import annotations

from typing import ClassVar

from hdapbench.method import Method, Plan, Problem
from hdapbench.quant.training.assign import layer_bits
from hdapbench.spec import TargetKind


class Bad(Method):
    name = "bad"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size"})

    def compress(self, problem: Problem) -> Plan:
        kept = {name: tuple(range(group.n_channels)) for name, group in problem.groups.items()}
        folded = problem.quantization.folded()
        chosen = {selector.name: (8,) * selector.n_channels for selector in folded.layers.selectors}
        return Plan(kept=kept, weight_bits=layer_bits(folded, chosen))  # here
