"""The protocol on fake clocks: what an interval covers, what cancels, what is repeated and what is flagged."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from hdapbench.runtimes.interval import FEWEST, median_interval
from hdapbench.runtimes.load import ForeignLoad
from hdapbench.runtimes.protocol import Effort, measure

EFFORT = Effort(rounds=15, runs=3, round_ms=0.0)


class FakeTimer:
    """A machine whose speed wanders: all models share its state, samples of one moment share their noise."""

    def __init__(
        self, ms: dict[str, float], *, seed: int = 0, drift: float = 0.0, noise: float = 0.02, burst: float = 0.0
    ):
        self.ms, self.drift, self.noise, self.burst = ms, drift, noise, burst
        self.rng = np.random.default_rng(seed)
        self.state = 0.0
        self.calls: list[str] = []

    def time(self, key: str, runs: int) -> np.ndarray:
        self.calls.append(key)
        self.state += self.drift + self.rng.normal(0, abs(self.drift))
        shared = self.rng.normal(0, self.burst)  # of this block of samples
        return self.ms[key] * np.exp(self.state + shared + self.rng.normal(0, self.noise, runs))


class FakeLoad:
    def __init__(self, cores: list[float | None]):
        self.cores_left = [0.0, *cores]  # the first call only starts the count

    def cores(self) -> float | None:
        return self.cores_left.pop(0)


def coverage(n: int, *, drift: float, burst: float, truth: float = 1.0) -> float:
    """Share of sessions whose interval of the ratio holds the true one."""
    held = 0
    for seed in range(n):
        timer = FakeTimer({"a": 10.0, "b": 10.0 * truth}, seed=seed, drift=drift, burst=burst)
        held += measure(timer, ["a", "b"], effort=EFFORT, seed=seed).ratio("b").holds(truth)
    return held / n


@pytest.mark.parametrize(("drift", "burst"), [(0.0, 0.0), (0.01, 0.0), (0.0, 0.05), (0.005, 0.05)])
def test_the_interval_of_a_ratio_holds_the_truth_in_95_of_100_sessions(drift, burst):
    """Also while the machine slows down by a third, and where the samples of a round move together."""
    assert coverage(400, drift=drift, burst=burst, truth=0.8) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)


def test_samples_taken_for_independent_would_give_intervals_that_promise_too_much():
    held = 0
    for seed in range(200):
        timer = FakeTimer({"a": 10.0, "b": 10.0}, seed=seed, burst=0.05)
        samples = measure(timer, ["a", "b"], effort=EFFORT, seed=seed).samples_ms
        held += median_interval((samples[:, 1] / samples[:, 0]).ravel()).holds(1.0)

    assert held / 200 < 0.9


def test_drift_widens_the_interval_of_a_latency_and_not_that_of_a_ratio():
    steady = measure(FakeTimer({"a": 10.0, "b": 8.0}), ["a", "b"], effort=EFFORT)
    drifting = measure(FakeTimer({"a": 10.0, "b": 8.0}, drift=0.01), ["a", "b"], effort=EFFORT)

    assert drifting.latency("b").half_width > 3 * steady.latency("b").half_width
    assert drifting.ratio("b").half_width < 2.5 * steady.ratio("b").half_width
    assert drifting.ratio("b").holds(0.8)


@pytest.mark.parametrize("n", [6, 9, 15, 40])
def test_the_interval_of_a_median_keeps_its_promise_for_skewed_values(n):
    rng = np.random.default_rng(n)
    held = np.mean([median_interval(np.exp(rng.normal(size=n) * 2)).holds(1.0) for _ in range(2000)])

    promised = median_interval(np.arange(n)).confidence
    assert 0.95 <= promised < 0.99
    assert held == pytest.approx(promised, abs=0.015)


def test_few_values_say_how_little_their_interval_means():
    assert median_interval([3.0]).confidence == 0.0
    assert median_interval([1.0, 2.0, 4.0]) == median_interval([4.0, 1.0, 2.0])
    assert median_interval([1.0, 2.0, 4.0]).confidence == pytest.approx(0.75)
    assert median_interval(range(FEWEST - 1)).confidence < 0.95 <= median_interval(range(FEWEST)).confidence


def test_every_round_times_every_model_in_an_order_of_its_own():
    timer = FakeTimer(dict.fromkeys("abcd", 1.0))

    session = measure(timer, list("abcd"), effort=Effort(rounds=200, runs=1, round_ms=0), seed=3)

    assert [sorted(order) for order in session.orders[:, 0].tolist()] == [[0, 1, 2, 3]] * 200
    first = Counter(session.orders[:, 0, 0].tolist())
    assert all(30 < first[place] < 70 for place in range(4))
    timed = timer.calls[-800:]
    assert ["abcd".index(key) for key in timed] == session.orders.ravel().tolist()


def test_models_take_turns_until_a_round_lasts_long_enough():
    timer = FakeTimer({"a": 10.0, "b": 5.0}, noise=0.001)

    session = measure(timer, ["a", "b"], effort=Effort(rounds=6, runs=3, round_ms=300))

    assert session.orders.shape == (6, 5, 2)
    assert session.samples_ms.shape == (6, 2, 15)
    assert np.median(session.samples_ms[:, 0]) == pytest.approx(10, rel=0.01)
    assert np.median(session.samples_ms[:, 1]) == pytest.approx(5, rel=0.01)


def test_a_round_with_foreign_load_is_repeated():
    load = FakeLoad([0.0, 2.0, 0.1, 1.0, 0.2, 0.0, 0.0, 0.0])

    session = measure(FakeTimer({"a": 1.0}), ["a"], effort=Effort(rounds=6, round_ms=0), load=load)

    assert len(session.samples_ms) == 8
    assert session.kept.tolist() == [True, False, True, False, True, True, True, True]
    assert session.flags() == []


def test_repeating_has_a_limit_and_what_is_left_is_flagged():
    load = FakeLoad([3.0, 0.5, 2.0, 0.4, 0.1, 0.6, 0.7, 0.8, 9.0])

    session = measure(FakeTimer({"a": 1.0}), ["a"], effort=Effort(rounds=6, round_ms=0, extra_rounds=3), load=load)

    assert session.kept.tolist() == [False, True, False, True, True, True, True, True, False]
    assert session.flags() == ["5 of 6 rounds had more than 0.3 cores of foreign load"]


def test_an_unknown_load_is_flagged_and_repeats_nothing():
    session = measure(FakeTimer({"a": 1.0}), ["a"], effort=EFFORT, load=FakeLoad([None] * 15))

    assert len(session.samples_ms) == 15
    assert session.flags() == ["foreign load unknown"]


def test_foreign_load_is_what_all_processors_did_less_ones_own():
    counts = iter([(100.0, 40.0), (100.5, 40.25), (100.75, 40.5), (103.0, 40.5)])
    clock = iter([0.0, 0.25, 0.5, 1.5])

    load = ForeignLoad(read=lambda: next(counts), clock=lambda: next(clock))

    assert load.cores() == pytest.approx(1.0)
    assert load.cores() == 0.0
    assert load.cores() == pytest.approx(2.25)


def test_a_machine_that_becomes_slower_is_flagged_as_throttled():
    session = measure(FakeTimer({"a": 1.0, "b": 3.0}, drift=0.01), ["a", "b"], effort=EFFORT, load=FakeLoad([0.0] * 15))

    assert session.drift > 0.1
    assert any("slower: throttled" in flag for flag in session.flags())


def test_outliers_and_a_warm_up_that_never_ends_are_flagged():
    class Jumpy(FakeTimer):
        def time(self, key: str, runs: int) -> np.ndarray:
            times = super().time(key, runs)
            times[self.rng.random(runs) < 0.1] *= 10
            return times

    class NeverWarm(FakeTimer):
        def time(self, key: str, runs: int) -> np.ndarray:
            self.ms[key] *= 0.9
            return super().time(key, runs)

    effort = Effort(rounds=10, runs=20, round_ms=0, warm_up_ms=100)
    jumpy = measure(Jumpy({"a": 1.0}), ["a"], effort=effort)
    cold = measure(NeverWarm({"a": 10.0}), ["a"], effort=effort)

    assert jumpy.flags("a")[-1].endswith("% outliers")
    assert "not stable after" in cold.flags("a")[0]


def test_a_session_is_told_as_json_with_every_sample():
    session = measure(FakeTimer({"a": 2.0, "b": 1.0}), ["a", "b"], effort=EFFORT, load=FakeLoad([0.1] * 15))

    told = json.loads(json.dumps(session.to_dict(), allow_nan=False))

    assert told["models"][1]["ratio"]["median"] == pytest.approx(0.5, rel=0.05)
    assert len(told["rounds"]) == 15
    assert np.shape(told["rounds"][0]["samples_ms"]["b"]) == (3,)
    assert told["rounds"][0]["foreign_cores"] == 0.1
