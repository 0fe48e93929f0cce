"""Trials per second that eight writers claim in PostgreSQL and store results of: none lost, none done twice.

Each writer claims eight trials at a time, stores their results (two devices of three repeats) and so gives back the claims, against a
server with its defaults: every commit is on the disk. HDAPBENCH_CLAIMS=100000 is what docs/store.md tells of.

    HDAPBENCH_CLAIMS=100000 python -m pytest benchmarks/test_store_speed.py --benchmark-only
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from hdapbench.store.claims import Owner
from hdapbench.store.place import place_of
from hdapbench.store.sqlite import open_store
from hdapbench.trial import Result, Trial
from tests.postgres import server

N_WRITERS, N_TRIALS = 8, int(os.environ.get("HDAPBENCH_CLAIMS", "4000"))
AT_ONCE, WINDOW = 8, 200
"""Trials that a writer claims together, and looks at."""

pytestmark = pytest.mark.timeout(600 + N_TRIALS)


@pytest.fixture
def url() -> Iterator[str]:
    with server() as found:
        yield found


def trials(example: Result, first: int, n_trials: int) -> dict[str, Trial]:
    """Id -> trial of the next window."""
    seeds = range(first, min(first + WINDOW, n_trials))
    found = [example.trial.model_copy(update={"seed": seed}) for seed in seeds]
    return {trial.id: trial for trial in found}


def work(url: str, example: Result, n_trials: int) -> tuple[list[int], float, float]:
    """Seeds of the trials that this writer did, and when it began and ended."""
    with open_store(place_of(url)) as store:
        owner, done, start = Owner.here(), [], 0
        claims = store.claims(owner)
        began = time.monotonic()
        window = trials(example, start, n_trials)
        while window:
            taken = claims.take(list(window), at_most=AT_ONCE)
            for trial_id in taken:
                store.add(example.model_copy(update={"trial": window[trial_id]}), owner=owner)
                done.append(window[trial_id].seed)
            if not taken:
                start += WINDOW
                window = trials(example, start, n_trials)
        return done, began, time.monotonic()


def test_eight_writers_lose_no_trial_and_do_none_twice(benchmark, url: str) -> None:  # type: ignore[no-untyped-def]
    from hdapbench.testing.store_contract import example_result  # not in the writers: it imports torch

    with open_store(place_of(url)):
        pass

    def all_of_them() -> list[tuple[list[int], float, float]]:
        with ProcessPoolExecutor(N_WRITERS, mp_context=get_context("spawn")) as pool:
            return [
                each.result() for each in [pool.submit(work, url, example_result(), N_TRIALS) for _ in range(N_WRITERS)]
            ]

    ended = benchmark.pedantic(all_of_them, rounds=1)

    times = Counter(seed for done, _, _ in ended for seed in done)
    seconds = max(end for _, _, end in ended) - min(begin for _, begin, _ in ended)
    per_second = N_TRIALS / seconds
    benchmark.extra_info.update(n_trials=N_TRIALS, trials_per_second=round(per_second))
    print(f"\n{N_TRIALS} trials by {N_WRITERS} writers: {per_second:.0f} per second")
    assert times == Counter(range(N_TRIALS))
    with open_store(place_of(url)) as store:
        assert len(store.trial_ids()) == N_TRIALS
        assert store.connection.execute("SELECT count(*) FROM claim").fetchone() == (0,)
