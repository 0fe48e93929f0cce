"""Which importance keeps the most accuracy: our ranks beside published ones. A part of `studies.evidence`.

The rows are those of studies/ranks.yaml; what is stored in the workspace is not trained again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

import hdapbench
from hdapbench.arrays import Booleans, Floats
from hdapbench.trial import DENSE, Result
from studies.others import RANKINGS, Ranking

SPEC = Path(__file__).with_name("ranks.yaml")
N_REPLICATES = 2000
LEAST_IN_COMMON = 4
"""Of fewer importances no rank correlation is told."""


def importance_of(result: Result) -> str:
    """What published tables call a row's importance: torch-pruning's magnitude is its group norm."""
    given = result.trial.parameters
    if result.trial.method == "magnitude":
        return str(given["norm"])
    return str(given["importance"]).replace("magnitude", "group norm")


def right_by_image(results: list[Result]) -> dict[str, Booleans]:
    """Importance -> whether each test image was named rightly, shape (n_images,)."""
    found = {}
    for result in results:
        if result.trial.method != DENSE and result.outcomes is not None and result.outcomes.by_image is not None:
            found[importance_of(result)] = result.outcomes.by_image
    return found


def correlation(right: Mapping[str, Booleans], published: Mapping[str, float]) -> tuple[int, float, float, float]:
    """Importances in common, Spearman's rank correlation of both accuracies, and its 95 % interval over test images."""
    names = [name for name in right if name in published]
    images = np.stack([right[name] for name in names]).astype(np.float32)  # (n_names, n_images)
    n_images = images.shape[1]
    counts = np.random.default_rng(0).multinomial(n_images, np.full(n_images, 1 / n_images), N_REPLICATES)
    drawn = np.vstack([images.sum(1), counts.astype(np.float32) @ images.T])  # (1 + n_replicates, n_names)
    ours, theirs = (_standard(rankdata(values, axis=-1)) for values in (drawn, [published[name] for name in names]))
    found = ours @ theirs / len(names)
    low, high = np.quantile(found[1:], (0.025, 0.975))
    return len(names), float(found[0]), float(low), float(high)


def _standard(ranks: Floats) -> Floats:
    """Ranks with mean zero and deviation one over the last axis; zero where all are tied."""
    away = ranks - ranks.mean(-1, keepdims=True)
    return away / np.maximum(away.std(-1, keepdims=True), 1e-12)


def among_themselves(rankings: tuple[Ranking, ...]) -> Floats:
    """Rank correlations of published tables with each other, shape (n_pairs,)."""
    found = []
    for one, other in combinations(rankings, 2):
        names = sorted({*one.accuracy} & {*other.accuracy})
        if len(names) >= LEAST_IN_COMMON:
            both = [[table.accuracy[name] for name in names] for table in (one, other)]
            found.append(float(spearmanr(*both)[0]))
    return np.array(found)


def lines_of(results: list[Result]) -> Iterator[str]:
    """Markdown: accuracies by importance, then the correlation with every published table."""
    right = right_by_image(results)
    dense = next(result.metrics for result in results if result.trial.method == DENSE and result.metrics)
    before = {importance_of(r): r.metrics.accuracy_before for r in results if r.trial.method != DENSE and r.metrics}
    n_images = len(next(iter(right.values())))
    yield f"| importance | ours: right after pruning (%) | fine-tuned (%) | {' | '.join(table.name for table in RANKINGS)} |"
    yield "|---|--:|--:|" + "--:|" * len(RANKINGS)
    theirs = " | ".join(f"{table.dense:.2f}" for table in RANKINGS)
    yield f"| dense | | {dense.accuracy:.2%} | {theirs} |"
    for name in sorted(right, key=lambda name: -right[name].mean()):
        cells = " | ".join(f"{table.accuracy[name]:.2f}" if name in table.accuracy else "" for table in RANKINGS)
        yield f"| {name} | {before[name]:.2%} | {right[name].mean():.2%} | {cells} |"
    yield ""
    yield "| published table | importances in common | rank correlation with ours | 95 % over test images |"
    yield "|---|--:|--:|--:|"
    with_ours = []
    for table in RANKINGS:
        names = sorted({*right} & {*table.accuracy})
        if len(names) >= LEAST_IN_COMMON:
            n_names, rho, low, high = correlation(right, table.accuracy)
            with_ours.append(rho)
            yield f"| {table.name} | {n_names} | {rho:+.2f} | {low:+.2f} to {high:+.2f} |"
        else:
            ordered = sorted(names, key=lambda name: -table.accuracy[name])
            ours = sorted(names, key=lambda name: -right[name].mean())
            yield f"| {table.name} | {len(names)} | theirs {' > '.join(ordered)}; ours {' > '.join(ours)} | |"
    between = among_themselves(RANKINGS)
    yield ""
    yield (
        f"{n_images:,} test images, {len({r.trial.seed for r in results})} seed. On average ours correlate with published tables by "
        f"{np.mean(with_ours):+.2f}, and these with each other by {between.mean():+.2f} ({between.min():+.2f} to {between.max():+.2f}, "
        f"{len(between)} pairs)."
    )


def rank_lines(workspace: Path) -> Iterator[str]:
    """Run what is missing of the spec's trials, and tell them."""
    os.environ.setdefault("HDAPBENCH_DATA", str(SPEC.parents[2] / "shared" / "data"))
    board = hdapbench.run(SPEC, workspace=workspace, executor="inline")
    yield from lines_of(list(board.results))
