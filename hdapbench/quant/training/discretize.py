"""Soft choices -> one bit-width per channel that meets a limit, with nothing given away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hdapbench.errors import TargetUnreachableError
from hdapbench.quant.training.selection import SelectionLogits

CostOfChannels = Callable[[Tensor], float]
"""Channels of each selector at each bit-width, shape (n_selectors, n_bits) -> cost."""

MOVES_PER_LOOK = 100
"""Rows are moved in portions of a hundredth of all, between two looks at what a move saves."""

TILES = (32, 16)
"""Output channels that accelerators process at once: classes are filled up to multiples of these."""

LEAST_LEAD = 1e-3
"""Logits closer than this count as equally good: what a move saves then decides."""


def discretize(selection: SelectionLogits, cost: CostOfChannels, limit: float) -> dict[str, tuple[int, ...]]:
    """Bits of each selector's channels: the likeliest ones, changed as little as the limit asks for.

    Above the limit, the channels give way whose logits hardly mind and which save most. Then channels move up where
    that costs nothing (they fill a tile that is paid for, arXiv 2407.01054's refinement), and what is left of the
    limit goes to those that come closest to wanting more bits.

    Parameters
    ----------
    cost
        Exact cost; it must not rise when channels lose bits.
    limit
        What the cost must not exceed.

    Raises
    ------
    TargetUnreachableError
        When the fewest bits and channels still exceed the limit.
    """
    rows = _Rows(selection)
    rows.lower(cost, limit)
    rows.fill_tiles(cost)
    rows.raise_(cost, limit)
    rows.fill_tiles(cost)
    return rows.bits()


class _Rows:
    """The choice of each row of the logits, a channel or a whole selector, as it is being changed."""

    def __init__(self, selection: SelectionLogits) -> None:
        self.selection = selection
        with torch.no_grad():
            self.logits = selection.allowed().cpu().double()
        self.column = self.logits.argmax(1)
        sizes = torch.tensor([selector.n_channels for selector in selection.selectors])
        by_layer = selection.granularity == "layer"
        self.owner = torch.arange(len(sizes)) if by_layer else selection.owner.cpu()
        self.size = sizes if by_layer else torch.ones(len(self.owner), dtype=torch.long)
        self.n_bits = len(selection.bits)
        floor = [min(selection.least_channels, s.n_channels) for s in selection.selectors]
        self.least = torch.tensor(floor)
        self.prunes = selection.bits[0] == 0

    def counts(self, column: Tensor | None = None) -> Tensor:
        """Channels of each selector at each bit-width, shape (n_selectors, n_bits)."""
        column = self.column if column is None else column
        counts = torch.zeros(len(self.selection.selectors), self.n_bits, dtype=torch.float64)
        return counts.index_put((self.owner, column), self.size.double(), accumulate=True)

    def lower(self, cost: CostOfChannels, limit: float) -> None:
        """Take bits away until the limit holds."""
        while (now := cost(self.counts())) > limit:
            saved = self._changes(cost, now, up=False)
            best: list[tuple[float, int, int]] = []
            for (selector, here, there), saving in saved.items():
                rows = self._movable(selector, here, there)
                lead = (self.logits[rows, here] - self.logits[rows, there]).clamp_min(0.0) + LEAST_LEAD
                best += [(saving / float(x), int(row), there) for row, x in zip(rows, lead, strict=True)]
            if not best:
                raise TargetUnreachableError(
                    f"with the fewest bits and channels the cost is {_amount(now)}, above {_amount(limit)}"
                )
            best.sort(key=lambda entry: -entry[0])
            self._apply_while_above(best, cost, limit)

    def _apply_while_above(self, moves: list[tuple[float, int, int]], cost: CostOfChannels, limit: float) -> None:
        moved: set[int] = set()
        for _, row, there in moves:
            if row in moved or not self._may_go(row, there):
                continue
            self.column[row] = there
            moved.add(row)
            if len(moved) > len(self.column) // MOVES_PER_LOOK or cost(self.counts()) <= limit:
                return

    def raise_(self, cost: CostOfChannels, limit: float) -> None:
        """Give bits where they are missed most, as long as the limit allows."""
        refused: set[tuple[int, int, int]] = set()
        while True:
            candidates = []
            for selector, here, there in self._moves(up=True):
                if (selector, here, there) in refused:
                    continue
                rows = self._movable(selector, here, there)
                lead = self.logits[rows, here] - self.logits[rows, there]
                candidates.append((float(lead.min()), int(rows[lead.argmin()]), (selector, here, there)))
            if not candidates:
                return
            _, row, move = min(candidates)
            before = int(self.column[row])
            self.column[row] = move[2]
            if cost(self.counts()) > limit:
                self.column[row] = before
                refused.add(move)  # costs only rise from here on: no other channel can make this move either

    def fill_tiles(self, cost: CostOfChannels) -> None:
        """Move channels up wherever that does not cost anything."""
        changed = True
        while changed:
            changed = False
            now = cost(self.counts())
            for selector, here, there in self._moves(up=True):
                rows = self._movable(selector, here, there)
                lead = self.logits[rows, here] - self.logits[rows, there]
                rows = rows[lead.argsort(stable=True)]
                n_there = int(((self.owner == selector) & (self.column == there)).sum())
                for n in sorted({len(rows), *(min(-n_there % tile, len(rows)) for tile in TILES)} - {0}, reverse=True):
                    column = self.column.clone()
                    column[rows[:n]] = there
                    if cost(self.counts(column)) <= now:
                        self.column, changed = column, True
                        break
                if changed:
                    break

    def bits(self) -> dict[str, tuple[int, ...]]:
        """Selector -> bits of each channel."""
        bits = torch.tensor(self.selection.bits)[self.column]
        return {
            selector.name: tuple(bits[self.owner == number].tolist()) * int(self.size[self.owner == number][0])
            for number, selector in enumerate(self.selection.selectors)
        }

    def _moves(self, *, up: bool) -> Iterator[tuple[int, int, int]]:
        """(Selector, present column, other column) of every kind of move that some row can make."""
        counts = self.counts()
        for selector in range(len(counts)):
            for here in range(self.n_bits):
                others = range(here + 1, self.n_bits) if up else range(here)
                if counts[selector, here]:
                    yield from (
                        (selector, here, there) for there in others if len(self._movable(selector, here, there))
                    )

    def _movable(self, selector: int, here: int, there: int) -> Tensor:
        """Rows of a selector in one column that may go to another."""
        rows = ((self.owner == selector) & (self.column == here)).nonzero()[:, 0]
        if self.prunes and there == 0:
            kept = int(((self.owner == selector) & (self.column > 0)).sum())
            if not self.selection.selectors[selector].prunable or kept <= int(self.least[selector]):
                return rows[:0]
        return rows

    def _may_go(self, row: int, there: int) -> bool:
        selector, here = int(self.owner[row]), int(self.column[row])
        return bool((self._movable(selector, here, there) == row).any())

    def _changes(self, cost: CostOfChannels, now: float, *, up: bool) -> dict[tuple[int, int, int], float]:
        """Kind of move -> what it saves per channel, averaged over all channels that could make it."""
        counts = self.counts()
        saved = {}
        for selector, here, there in self._moves(up=up):
            changed = counts.clone()
            n = counts[selector, here]
            if self.prunes and there == 0:  # as many as may go
                n = torch.minimum(n, counts[selector, 1:].sum() - self.least[selector])
            changed[selector, here] -= n
            changed[selector, there] += n
            saved[selector, here, there] = max((now - cost(changed)) / float(n), 1e-12)
        return saved


def _amount(cost: float) -> str:
    """A cost in whole units, or a share of limits that hold at once."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.4g}"
