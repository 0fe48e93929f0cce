"""Plug-ins with wrong parameters, reasons or plans, and plans above their target."""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

import torch

from hdapbench.method import Method, Plan, Problem
from hdapbench.quant.training.assign import layer_bits
from hdapbench.spec import TargetKind


def largest(problem: Problem) -> Plan:
    """What a plug-in without a fault returns."""
    share = problem.solve_ratio()
    return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class TupleParameter(Method):
    name = "tuple_parameter"
    kernel: tuple[int, ...] = (3, 3)

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class ObjectParameter(Method):
    name = "object_parameter"
    folder: object = object()

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class EmptyReason(Method):
    name = "empty_reason"

    def skip(self, problem: Problem) -> str | None:  # here
        return ""

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class SkipThatCrashes(Method):
    name = "skip_that_crashes"

    def skip(self, problem: Problem) -> str | None:
        return problem.groups["head"].name  # here

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class LeavesWhileSkipping(Method):
    name = "leaves_while_skipping"

    def skip(self, problem: Problem) -> str | None:
        sys.exit(0)  # here

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)


class Crash(Method):
    name = "crash"

    def compress(self, problem: Problem) -> Plan:
        raise RuntimeError("out of ideas")  # here


class Cancels(Method):
    name = "cancels"

    def compress(self, problem: Problem) -> Plan:
        raise asyncio.CancelledError("no more")  # here


class NamesUnknownWeights(Method):
    name = "names_unknown_weights"

    def compress(self, problem: Problem) -> Plan:
        plan = largest(problem)
        return plan.model_copy(update={"weights": "those"})  # here


class HandsInAModel(Method):
    name = "hands_in_a_model"

    def compress(self, problem: Problem) -> Plan:
        plan = largest(problem)
        return plan.model_copy(update={"weights": problem.model()})  # here


class NoPlan(Method):
    name = "no_plan"

    def compress(self, problem: Problem) -> Plan:
        return dict.fromkeys(problem.groups, 1)  # here


class ForgetsAGroup(Method):
    name = "forgets_a_group"

    def compress(self, problem: Problem) -> Plan:
        plan = largest(problem)
        return Plan(kept=dict(list(plan.kept.items())[1:]))  # here


class EmptiesNarrowGroups(Method):
    name = "empties_narrow_groups"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        widths = {name: int(share * group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_widths(widths, "l1")  # here


class KnowsChainsOnly(Method):
    name = "knows_chains_only"

    def compress(self, problem: Problem) -> Plan:
        for group in problem.groups.values():
            (_,) = group.producers  # here
        return largest(problem)


class KnowsNoDepthwise(Method):
    name = "knows_no_depthwise"

    def compress(self, problem: Problem) -> Plan:
        model = problem.model()
        for group in problem.groups.values():
            for member in group.members:
                layer = model.get_submodule(member.layer)
                if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1:
                    raise NotImplementedError("grouped convolution")  # here
        return largest(problem)


class KnowsNoConcat(Method):
    name = "knows_no_concat"

    def compress(self, problem: Problem) -> Plan:
        model = problem.model()
        scores = {}
        for name, group in problem.groups.items():
            reader = next(member.layer for member in group.members if member.side == "in")
            weight = model.get_submodule(reader).weight.detach()
            scores[name] = (
                weight.abs().flatten(2).sum((0, 2)).numpy() if weight.ndim == 4 else weight.abs().sum(0).numpy()
            )
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), scores)  # here


class CountsByItself(Method):
    name = "counts_by_itself"

    def compress(self, problem: Problem) -> Plan:
        share = (problem.target_flops / problem.cost.dense.flops) ** 0.5
        widths = {name: max(round(share * group.n_channels), 1) for name, group in problem.groups.items()}
        return problem.plan_by_widths(widths, "l1")  # here


class PromisesASize(Method):
    name = "promises_a_size"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops", "size"})

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)  # here


class ExceedsASize(Method):
    name = "exceeds_a_size"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size"})

    def compress(self, problem: Problem) -> Plan:
        kept = {name: tuple(range(group.n_channels)) for name, group in problem.groups.items()}
        folded = problem.quantization.folded()
        chosen = {selector.name: (8,) * selector.n_channels for selector in folded.layers.selectors}
        return Plan(kept=kept, weight_bits=layer_bits(folded, chosen))  # here


class ExceedsALatency(Method):
    """Keep everything.

    Source: none.
    Needs: nothing.
    Never sees: latency.
    """

    name = "exceeds_a_latency"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"latency"})

    def compress(self, problem: Problem) -> Plan:
        problem.devices.latency_share(problem.cost.sizes)  # looking at what the target limits breaks no promise
        return Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})  # here
