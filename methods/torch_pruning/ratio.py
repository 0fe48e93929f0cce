"""Scores -> kept channels at a channel ratio, by torch-pruning's arithmetic. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def kept_at_ratio(
    scores: Mapping[str, NDArray[np.floating]],
    scopes: list[list[str]],
    ratio: float,
    *,
    round_to: int = 1,
    left: Mapping[str, int] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Kept channels of every group when a share of the channels of each scope goes, least score first.

    Of n channels ``n - int(n * (1 - ratio))`` go, and of several groups whatever ties with the last of them, as in
    torch-pruning; a group that would lose all that it has, or fall below ``round_to``, stays as it is.

    Parameters
    ----------
    scores
        Group -> score of each channel, shape (n_channels,).
    scopes
        Lists of groups whose channels are compared with each other; each group is in exactly one.
    ratio
        Share to remove, in [0, 1).
    round_to
        What a group keeps is rounded down to a multiple of this.
    left
        Channels that earlier rounds left of each group, those of highest score; all by default.
    """
    kept: dict[str, tuple[int, ...]] = {}
    for names in scopes:
        together = np.sort(np.concatenate([np.asarray(scores[name], dtype=float) for name in names]))
        n_removed = len(together) - int(len(together) * (1 - ratio))
        threshold = together[n_removed - 1] if n_removed else -np.inf
        for name in names:
            score = np.asarray(scores[name], dtype=float)
            before = len(score) if left is None else left[name]
            width = len(score) - n_removed if len(names) == 1 else int((score > threshold).sum())
            width = before if width >= before else (width - width % round_to or before)
            order = np.argsort(-score, kind="stable")[:width]
            kept[name] = tuple(sorted(int(channel) for channel in order))
    return {name: kept[name] for name in scores}
