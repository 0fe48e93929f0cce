"""The widths that a search may choose from, per group: all of them, multiples, or a stated subset. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Integers

_FINER = "; finer near the best plan"


@dataclass(frozen=True)
class LevelSet:
    """Widths that each group may take.

    Attributes
    ----------
    widths
        Per group its levels, ascending, shape (n_levels,).
    description
        The same in words: what a bound over these levels speaks of.
    """

    widths: tuple[Integers, ...]
    description: str

    @classmethod
    def multiples(
        cls, sizes: Integers, steps: Sequence[int], *, round_to: int = 1, least: Integers | None = None
    ) -> LevelSet:
        """Multiples of a step per group, and always the dense width and the least one.

        Parameters
        ----------
        sizes
            Channels of each group in the dense model, shape (n_groups,).
        steps
            One per group, multiples of ``round_to``.
        round_to
            What the caller allows: widths are multiples of it, or the dense width.
        least
            No group may be narrower than this, shape (n_groups,), or None.
        """
        found = []
        for number, (size, step) in enumerate(zip(sizes.tolist(), steps, strict=True)):
            lowest = 1 if least is None else int(min(max(least[number], 1), size))
            lowest = min(-(-lowest // round_to) * round_to, size)
            first = -(-lowest // step) * step
            found.append(np.unique(np.concatenate([[lowest], np.arange(first, size, step), [size]])).astype(np.int64))
        return cls(tuple(found), _in_words(sizes, steps, round_to))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of levels of each group."""
        return tuple(len(levels) for levels in self.widths)

    def near(self, plan: Integers, steps: Sequence[int], *, round_to: int, least: Integers | None = None) -> LevelSet:
        """These levels, and finer ones near a plan: its widths, plus and minus 1, 2, 4, ... times ``round_to``.

        Parameters
        ----------
        plan
            Widths, shape (n_groups,).
        steps
            One per group: added levels are nearer than this.
        round_to
            What the caller allows: widths are multiples of it, or the dense width.
        least
            No group may be narrower than this, shape (n_groups,), or None.
        """
        merged = []
        for number, (levels, width, step) in enumerate(zip(self.widths, plan.tolist(), steps, strict=True)):
            lowest = levels[0] if least is None else max(int(levels[0]), int(least[number]))
            far = round_to * 2 ** np.arange(max(step // round_to, 1).bit_length() - 1)
            near = -(-width // round_to) * round_to  # the dense width need not be a multiple
            close = np.concatenate([[width], near - far, near + far])
            close = close[(close >= lowest) & (close <= levels[-1])]
            merged.append(np.unique(np.concatenate([levels, close])).astype(np.int64))
        return LevelSet(tuple(merged), self.description.removesuffix(_FINER) + _FINER)

    def plans(self, at: Integers) -> Integers:
        """Widths of level positions, both of shape (n_plans, n_groups)."""
        return np.stack([levels[column] for levels, column in zip(self.widths, at.T, strict=True)], axis=1)

    def nearest(self, widths: Integers) -> Integers:
        """Positions of the levels nearest to widths, the lower of two, shape (n_plans, n_groups)."""
        columns = []
        for levels, wanted in zip(self.widths, np.atleast_2d(widths).T, strict=True):
            above = np.clip(np.searchsorted(levels, wanted), 0, len(levels) - 1)
            below = np.maximum(above - 1, 0)
            columns.append(np.where(wanted - levels[below] <= levels[above] - wanted, below, above))
        return np.stack(columns, axis=1)


def _in_words(sizes: Integers, steps: Sequence[int], round_to: int) -> str:
    every = f"every {_step_in_words(round_to)}"
    coarse = sorted({step for step in steps if step > round_to})
    if not coarse:
        return every
    parts = [f"multiples of {step} in {sum(s == step for s in steps)} of {len(sizes)} groups" for step in coarse]
    return f"{', '.join(parts)}, else {every}"


def _step_in_words(round_to: int) -> str:
    return "width" if round_to == 1 else f"multiple of {round_to}"
