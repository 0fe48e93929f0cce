"""What boards say of models that they timed: checked, since a wrong number looks like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.fleet.command.board_runner import THROTTLED
from hdapbench.fleet.exports import REFERENCE_MACS

MOST_MACS_PER_MS = 1e12
"""1,000 T multiply-accumulates a second: no edge board comes near."""


class AnswerError(Exception):
    """An answer cannot be used; the text says why. A board that lies is not asked again."""


class ThrottledError(AnswerError):
    """A board is at least twice as slow as at first: for a moment, or for long."""


def parsed(output: str) -> dict[str, Any]:
    """The JSON in the last line of what a board said.

    Raises
    ------
    AnswerError
        When there is none.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    try:
        answer: Any = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        said = f"'{lines[-1].strip()[:60]}'" if lines else "nothing"
        raise AnswerError(f'the last line is no JSON such as {{"samples_ms": [[1.5, 1.4]]}}; it said {said}')
    return answer


def checked_samples(answer: dict[str, Any], *, n_models: int, runs: int, seconds: float | None) -> Floats:
    """Samples in ms, shape (n_models, runs), of an answer whose first and last model is the reference network.

    Parameters
    ----------
    seconds
        What the visit took, as far as that is known.

    Raises
    ------
    AnswerError
        When they are of another shape, or are no latencies that a board can have.
    """
    try:
        rows = [[float(value) for value in row if not isinstance(value, bool | str)] for row in answer["samples_ms"]]
        samples = np.array(rows, dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AnswerError("it has no 'samples_ms' with a list of numbers for each model") from None
    if samples.shape != (n_models, runs):
        raise AnswerError(f"'samples_ms' has the shape {samples.shape}, not {n_models} models x {runs} runs")
    wrong = samples[~(np.isfinite(samples) & (samples > 0))]
    if wrong.size:
        raise AnswerError(f"it gave {wrong[0]:g} ms; latencies are finite and positive")
    of_models = [samples[[0, -1]].ravel(), *samples[1:-1]]
    if not any(np.ptp(values) for values in (of_models if runs > 1 else [samples])):
        raise AnswerError(
            f"samples of a model are all alike, such as {samples.flat[0]:g} ms: no clock tells such times"
        )
    if samples[[0, -1]].min() * MOST_MACS_PER_MS < REFERENCE_MACS:
        raise AnswerError(f"it gave {samples[[0, -1]].min():.3g} ms for the reference network: no board is so fast")
    if seconds is not None and samples.sum() > 1e3 * seconds:
        raise AnswerError(f"its samples add up to {samples.sum() / 1e3:.3g} s, and the visit took {seconds:.3g} s")
    return samples


class References:
    """What the reference network took on each device at first, and by how much later times are to be divided.

    Parameters
    ----------
    first_ms
        Name of each device that is known from before -> what it took then.
    """

    def __init__(self, first_ms: Mapping[str, float] | None = None) -> None:
        self.first_ms = dict(first_ms or {})

    def slowdown(self, device: str, samples_ms: Floats) -> float:
        """How many times as long as at first the reference takes now.

        Raises
        ------
        AnswerError
            `ThrottledError`: the board is at least twice as slow as at first.
        """
        now = float(np.median(samples_ms[[0, -1]]))
        factor = now / self.first_ms.setdefault(device, now)
        if factor > THROTTLED:
            raise ThrottledError(f"throttled: the reference network takes {factor:.1f} times as long as at first")
        return factor
