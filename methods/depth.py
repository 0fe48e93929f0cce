"""Depth: residual blocks removed together with widths, the question of MDP and LayerMerge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.target import check_reachable, fill, largest_share, widths_at_share
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.method import Method, Plan, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]


LEAST_LOSS = 1e-6
"""Loss that a block's absence counts as at least: blocks of no importance go one after another, not all at once."""


class Depth(Method):
    """Remove residual blocks, few or many, and the same share of every group that is left, as loss and latency say.

    A block goes as a whole, its shortcut stays; a shortcut with a projection keeps its block. A block's importance is
    the loss that its absence alone adds on training images. For each of ``candidates`` shares of channels, from that of
    uniform pruning up to all of them, the blocks of least total importance are removed with which FLOPs meet the target
    (one binary per block, solved exactly); shares then grow to the target. Candidates are measured on every cluster,
    and the fastest is taken whose recalibrated loss is close to the least.

    The question is that of MDP (Sun et al., CVPR 2025) and LayerMerge (Kim et al., ICML 2024). They choose each layer's
    width by a latency table; here one share holds for all groups, and whole models are measured.

    Source: written for this benchmark; importance by leaving out as in Veit et al., NeurIPS 2016.
    Needs: residual blocks with identity shortcuts; looks at training images, evaluations and device queries, charged.
    Never sees: nothing is hidden.
    """

    name = "depth"
    criterion: Literal["taylor", "l1", "l2"] = Field(default="taylor", description="Which channels of a group stay.")
    candidates: int = Field(default=8, ge=2, description="Shares of channels between uniform pruning's and all.")
    n_images: int = Field(default=512, ge=1, description="Training images on which a block is left out.")
    loss_tolerance: float = Field(
        default=0.1, ge=0.0, description="Recalibrated loss that a faster candidate may add, relative to the least."
    )
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")
    reconstruct: bool = Field(default=False, description="Let weights make up for removed channels.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when no block can be removed."""
        return (
            None if problem.cost.blocks else "no residual block with an identity shortcut, whose channels can be pruned"
        )

    def compress(self, problem: Problem) -> Plan:
        """Plan of the fastest candidate whose loss is close to the least.

        Raises
        ------
        BudgetExceededError
            When blocks cannot be left out, or candidates not measured, or none evaluated.
        TargetUnreachableError
            When FLOPs exceed the target without any block.
        """
        blocks = np.zeros((len(problem.cost.blocks), len(problem.groups)), dtype=bool)  # (n_blocks, n_groups)
        for number, block in enumerate(problem.cost.blocks):
            blocks[number, block.groups] = True
        left = problem.cost.narrowed(np.where(blocks.any(0), 0, problem.cost.sizes))
        check_reachable(left, problem.target_flops, round_to=self.round_to)
        if self.reconstruct:
            problem.training.inputs()  # charged before all that is of no use without it
        added = self._losses_added(problem)
        problem.remember("loss added without a block", dict(zip(_names(problem), map(float, added), strict=True)))
        widths = self._candidates(problem, blocks, added)
        latency = problem.latency(widths) @ problem.devices.cluster_weights
        scores = problem.importance(self.criterion)
        plans, losses = [problem.plan_by_widths(row, scores) for row in widths], []
        try:
            for plan in plans:
                losses.append(problem.training.recalibrated_loss(plan, reconstruct=self.reconstruct))
                problem.progress(f"candidate {len(losses)} of {len(plans)}: loss {losses[-1]:.4g}")
        except BudgetExceededError:
            if not losses:
                raise
        close = np.flatnonzero(np.array(losses) <= (1 + self.loss_tolerance) * min(losses))
        chosen = int(close[np.argmin(latency[close])])
        seen = zip(widths, latency, losses, strict=False)
        problem.remember(
            "candidates",
            [
                {"removed": _removed(problem, row), "latency_ms": float(ms), "loss": float(loss)}
                for row, ms, loss in seen
            ],
        )
        problem.remember("removed blocks", _removed(problem, widths[chosen]))
        return problem.training.reconstructed(plans[chosen]) if self.reconstruct else plans[chosen]

    def _losses_added(self, problem: Problem) -> Floats:
        """Loss on training images that each block's absence adds, shape (n_blocks,); at most half of what is left."""
        import torch

        training, budget, n_models = problem.training, problem.budget, len(problem.cost.blocks) + 1
        affordable = budget.remaining("train_epochs") / 2 / n_models / training.looking_epochs(1)
        n_images = int(max(1, min(self.n_images, training.n_train_images, affordable)))
        budget.charge("train_epochs", n_models * training.looking_epochs(n_images))
        batches, model = list(training.batches(n_images)), problem.model()

        @torch.no_grad()
        def loss() -> float:
            parts = [(float(training.loss(model(images), labels)), len(images)) for images, labels in batches]
            return sum(part * n for part, n in parts) / sum(n for _, n in parts)

        dense, added = loss(), []
        for name in _names(problem):
            problem.progress(f"leaving out {name}")
            block = model.get_submodule(name)
            before = {key: value.clone() for key, value in block.state_dict().items()}
            with torch.no_grad():
                for parameter in block.parameters():
                    parameter.zero_()
            added.append(loss() - dense)
            block.load_state_dict(before)
        return np.array(added)

    def _candidates(self, problem: Problem, blocks: Flags, added: Floats) -> Integers:
        """Widths at the target, 0 in removed blocks, each removing others; shape (n_candidates, n_groups)."""
        cost, target = problem.cost, problem.target_flops
        try:
            least = largest_share(cost, target, round_to=self.round_to)
        except TargetUnreachableError:  # unless blocks are removed
            least = 0.0
        found: dict[bytes, Integers] = {}
        for share in np.linspace(least, 1.0, self.candidates):
            widths = widths_at_share(cost, share, round_to=self.round_to)
            flops = cost.flops(np.vstack([widths, np.where(blocks, 0, widths)]))
            removed = _least_lost(flops[0] - flops[1:], np.maximum(added, LEAST_LOSS), int(flops[0]) - target)
            if removed is None or removed.tobytes() in found:
                continue
            left = cost.narrowed(np.where(blocks[removed].any(0), 0, cost.sizes))
            kept = largest_share(left, target, steps=20, round_to=self.round_to)
            widths = widths_at_share(left, kept, round_to=self.round_to)
            found[removed.tobytes()] = fill(left, widths, target, round_to=self.round_to)
        return np.stack(list(found.values()))


def _names(problem: Problem) -> list[str]:
    """All blocks that can be removed."""
    return [block.name for block in problem.cost.blocks]


def _removed(problem: Problem, widths: Integers) -> list[str]:
    """Blocks that widths remove."""
    return [block.name for block in problem.cost.blocks if not widths[list(block.groups)].any()]


def _least_lost(saved: Integers, lost: Floats, needed: int) -> Flags | None:
    """Blocks that save what is needed and lose the least in sum, shape (n_blocks,); None where all save too little.

    Exact: block by block, of all sets so far those are kept that no set of at least their savings loses less than.
    """
    sets, total_saved, total_lost = np.zeros((1, len(saved)), dtype=bool), np.zeros(1, dtype=np.int64), np.zeros(1)
    for block in range(len(saved)):
        more = sets.copy()
        more[:, block] = True
        sets = np.concatenate([sets, more])
        total_saved = np.concatenate([total_saved, total_saved + saved[block]])
        total_lost = np.concatenate([total_lost, total_lost + lost[block]])
        order = np.lexsort((total_lost, -total_saved))  # those that save most first
        least = np.minimum.accumulate(total_lost[order])
        order = order[np.concatenate([[True], total_lost[order][1:] < least[:-1]])]
        sets, total_saved, total_lost = sets[order], total_saved[order], total_lost[order]
    enough = np.flatnonzero(total_saved >= needed)
    return sets[enough[-1]] if len(enough) else None
