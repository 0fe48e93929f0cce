"""How models are timed against each other: warm up, interleave, repeat what others disturbed, keep every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.runtimes.session import Session, WarmUp

WARM_UP_RUNS = 5
STABLE = 0.03
"""A model is warm when the medians of three groups of runs in a row lie within this share of each other."""

MOST_TURNS = 100


class Timer(Protocol):
    """Whatever times models: a `hdapbench.runtimes.worker.Worker`, or a fake one."""

    def time(self, key: str, runs: int) -> Floats:
        """Times in ms, shape (runs,)."""


class LoadMeter(Protocol):
    """Whatever tells the load of others, as `hdapbench.runtimes.load.ForeignLoad` does."""

    def cores(self) -> float | None:
        """Load in cores since the last call; None: unknown."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    rounds
        Rounds that count; six are the least that give an interval of 95 %.
    runs
        Runs of a model in a row, after one that is not timed; a round has as many turns of all models as fill it.
    round_ms
        A round takes this long at least, so that the system's coarse count of foreign load means something.
    warm_up_ms
        Time per model after which warming up is given up.
    foreign_cores
        A round above this foreign load is repeated.
    extra_rounds
        Rounds that may be repeated, all in all.
    """

    rounds: int = 15
    runs: int = 3
    round_ms: float = 300.0
    warm_up_ms: float = 3000.0
    foreign_cores: float = 0.3
    extra_rounds: int = 15


def measure(
    timer: Timer,
    keys: Sequence[str],
    *,
    effort: Effort,
    seed: int = 0,
    load: LoadMeter | None = None,
    on_round: Callable[[int, int, int], None] | None = None,
) -> Session:
    """One session: in every round models take turns, in an order drawn anew each turn.

    Whatever changes the machine over seconds changes all models of a round alike, and is gone from their ratios. In
    its turn a model runs once untimed, so that it finds its own data in the caches, then ``runs`` times in a row.

    Parameters
    ----------
    timer
        Times the models, which are loaded under ``keys``.
    keys
        Models; ratios are to the first of them.
    effort
        Rounds, runs and limits.
    seed
        Of the orders.
    load
        Foreign load; None leaves it unknown, and repeats nothing.
    on_round
        Called with rounds that count so far, rounds wanted, and rounds carried out.
    """
    rng = np.random.default_rng(seed)
    warm_ups = tuple(warm_up(timer, key, limit_ms=effort.warm_up_ms) for key in keys)
    n_turns = _turns(effort, sum(warm.ms for warm in warm_ups))
    samples, orders, foreign = [], [], []
    if load is not None:
        load.cores()  # counts from here
    while True:
        order = [rng.permutation(len(keys)).tolist() for _ in range(n_turns)]
        times = np.empty((len(keys), n_turns, effort.runs))
        for turn, places in enumerate(order):
            for place in places:
                times[place, turn] = timer.time(keys[place], effort.runs + 1)[1:]
        cores = load.cores() if load is not None else None
        samples.append(times.reshape(len(keys), -1))
        orders.append(order)
        foreign.append(np.nan if cores is None else cores)
        quiet = int((~(np.array(foreign) > effort.foreign_cores)).sum())  # unknown counts as quiet
        if on_round is not None:
            on_round(quiet, effort.rounds, len(samples))
        if quiet >= effort.rounds or len(samples) >= effort.rounds + effort.extra_rounds:
            break
    return Session(
        keys=tuple(keys),
        samples_ms=np.array(samples),
        orders=np.array(orders),
        foreign_cores=np.array(foreign),
        kept=_kept(np.array(foreign), effort),
        warm_ups=warm_ups,
        foreign_limit=effort.foreign_cores,
    )


def warm_up(timer: Timer, key: str, *, limit_ms: float) -> WarmUp:
    """Run a model until its times are stable, or for ``limit_ms``."""
    medians: list[float] = []
    spent, n_runs = 0.0, 0
    while True:
        times = timer.time(key, WARM_UP_RUNS)
        spent, n_runs = spent + float(times.sum()), n_runs + len(times)
        medians.append(float(np.median(times)))
        last = medians[-3:]
        if len(last) == 3 and max(last) <= (1 + STABLE) * min(last):
            return WarmUp(key, n_runs, last[-1], is_stable=True)
        if spent >= limit_ms:
            return WarmUp(key, n_runs, min(last), is_stable=False)


def _turns(effort: Effort, all_models_ms: float) -> int:
    """Turns of all models that fill a round."""
    one_turn_ms = max((effort.runs + 1) * all_models_ms, 1e-6)
    return int(np.clip(np.ceil(effort.round_ms / one_turn_ms), 1, MOST_TURNS))


def _kept(foreign: Floats, effort: Effort) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rounds that count: quiet ones as they came, and where they are too few the least disturbed of the others."""
    disturbed = foreign > effort.foreign_cores
    wanted = min(effort.rounds, len(foreign))
    order = np.argsort(np.where(disturbed, foreign, -1.0), kind="stable")
    kept = np.zeros(len(foreign), dtype=bool)
    kept[order[:wanted]] = True
    return kept
