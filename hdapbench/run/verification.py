"""Stored results made again: whether a sample of them comes out as it is stored, within stated tolerances."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdapbench.errors import StoreError
from hdapbench.run.environment import current_environment
from hdapbench.trial import DENSE, Metrics, Result, Status, Trial

CONFIDENCE_Z = 2.5758293035489004
"""Quantile of the normal distribution for a two-sided 99 % interval."""

LATENCY_TOLERANCE = 1e-9
"""Relative, of simulated latencies of equal plans: what other versions may differ by in the last digits."""


@dataclass(frozen=True)
class Comparison:
    """A stored result and what came of its trial now.

    Attributes
    ----------
    stored, found
        The results.
    verdict
        What they have in common: ``bit for bit``, ``within tolerance``, or what differs.
    holds
        Whether that is as it should be.
    """

    stored: Result
    found: Result
    verdict: str
    holds: bool


def sample_of(results: Sequence[Result], trials: Sequence[Trial], *, n: int, seed: int) -> list[tuple[Result, Trial]]:
    """Complete results drawn at random, each with the trial of the spec that makes it again.

    Raises
    ------
    StoreError
        When the spec has no such trials.
    """
    here = {_cell(trial): trial for trial in trials}
    complete = sorted((r for r in results if r.status is Status.COMPLETE), key=lambda result: result.trial.id)
    pairs = [(result, here[key]) for result in complete if (key := _cell(result.trial)) in here]
    if not pairs:
        raise StoreError(
            f"none of the {len(complete)} complete results is of a trial of this spec: its content, code, images or "
            "version of the numbers are others"
        )
    return random.Random(seed).sample(pairs, min(n, len(pairs)))


def compare(stored: Result, found: Result, *, bases: Mapping[str, str], exact: bool) -> Comparison:
    """Comparison of a stored result with the same trial's result here.

    Parameters
    ----------
    bases
        Hash of the base model that was ``stored`` and that was ``found``, where they are known.
    exact
        Whether every number must be the same, as on one machine with one set of versions.
    """
    if stored.metrics is None or found.metrics is None:
        return Comparison(stored, found, f"{found.status.value}: {found.reason}", holds=False)
    if _numbers(stored) == _numbers(found):
        return Comparison(stored, found, "bit for bit", holds=True)
    is_same_base = bases.get("stored") == bases.get("found")
    wrong = list(_differences(stored, found, is_same_base=is_same_base))
    notes = [] if is_same_base else ["on another base model"]
    if stored.environment != found.environment:
        notes.append("under other versions")
    if exact and not wrong:
        wrong = ["not bit for bit"]
    return Comparison(stored, found, ", ".join([*(wrong or ["within tolerance"]), *notes]), holds=not wrong)


def environment_differences(results: Sequence[Result]) -> list[str]:
    """Versions that stored results were made with and that are others here."""
    here = current_environment().model_dump()
    stored = [result.environment.model_dump() for result in results]
    return [
        f"{name} {' and '.join(sorted({str(found[name]) for found in stored}))}, here {value}"
        for name, value in here.items()
        if {found[name] for found in stored} - {value}
    ]


def base_hash(results: Sequence[Result]) -> str | None:
    """Hash of the base model that results of the dense model tell."""
    return next((r.notes["base_hash"] for r in results if r.trial.method == DENSE and "base_hash" in r.notes), None)


def accuracy_interval(result: Result) -> tuple[float, float]:
    """99 % interval of a result's accuracy over test images: Wilson's (1927), or the spread of its groups of images."""
    outcomes, metrics = result.outcomes, result.metrics
    if metrics is None or outcomes is None:
        return 0.0, 1.0
    if outcomes.parts:
        parts = np.array(outcomes.parts)
        half = CONFIDENCE_Z * float(parts.std(ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else 1.0
        return metrics.accuracy - half, metrics.accuracy + half
    n, p, z = outcomes.n_images, metrics.accuracy, CONFIDENCE_Z
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def latency_interval(result: Result, metrics: Metrics) -> tuple[float, float]:
    """What a measured latency may be (ms): the stored interval, widened to what the raw repeats span."""
    total = sum(device.weight for device in result.devices) or 1.0
    low, high = (sum(d.weight * end(d.samples_ms) for d in result.devices) / total for end in (min, max))
    return min(metrics.latency_low_ms, low), max(metrics.latency_high_ms, high)


def _differences(stored: Result, found: Result, *, is_same_base: bool) -> Iterator[str]:
    before, now = stored.metrics, found.metrics
    assert before is not None and now is not None  # noqa: S101, PT018 - the caller has seen to it
    with_images = stored if stored.outcomes is not None else found.model_copy(update={"metrics": before})
    low, high = accuracy_interval(with_images)
    if not low <= now.accuracy <= high:
        yield f"accuracy outside {low:.2%} to {high:.2%}"
    has_same_widths = _widths(stored) == _widths(found)
    if not has_same_widths and is_same_base:
        yield "another plan"
    elif before.latency_source != now.latency_source:
        yield f"latency is {now.latency_source}"
    elif before.latency_source == "simulated":
        if has_same_widths and not math.isclose(before.latency_ms, now.latency_ms, rel_tol=LATENCY_TOLERANCE):
            yield "another simulated latency"
    elif has_same_widths:
        low, high = latency_interval(stored, before)
        if not low <= now.latency_ms <= high:
            yield f"latency outside {low:.4g} to {high:.4g} ms"


def _widths(result: Result) -> dict[str, int]:
    return {} if result.plan is None else {name: len(kept) for name, kept in result.plan.kept.items()}


def _numbers(result: Result) -> dict[str, Any]:
    return result.model_dump(include={"plan", "metrics", "devices"})


def _cell(trial: Trial) -> str:
    """All that a trial depends on but the host that it ran on."""
    content = trial.model_dump(mode="json", exclude={"benchmark", "fleet"})
    sources = {name: value for name, value in trial.sources.items() if name != "host"}
    return json.dumps(content | {"sources": sources}, sort_keys=True)
