from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

import pytest

from hdapbench.store.claims import Claims, Owner
from hdapbench.store.place import Place, Postgres
from hdapbench.store.sqlite import Store, open_store
from hdapbench.testing.store_contract import example_gap, example_result, example_trial
from hdapbench.trial import Status

IDS = [f"{number:012x}" for number in range(1000)]


class Clock:
    """Steady seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with open_store(place) as opened:
        yield opened


def claims(store: Store, clock: Clock | None = None, *, host: str | None = None) -> Claims:
    """Claims of a new worker, of another host if one is named."""
    owner = Owner.here()
    found = store.claims(owner if host is None else dataclasses.replace(owner, host=host))
    if clock is not None:
        found._clock = clock
    return found


def test_a_trial_is_given_to_one_worker_and_goes_on_to_the_next_when_released(store: Store) -> None:
    one, other = claims(store), claims(store)

    assert one.take(IDS[:3], at_most=2) == tuple(IDS[:2])
    assert other.take(IDS[:3], at_most=3) == (IDS[2],)
    assert one.take(IDS[:3], at_most=3) == ()
    assert one.held_by_others(IDS[:3]) == {IDS[2]: str(other.owner)}
    assert str(other.owner) == f"process {os.getpid()} on {other.owner.host}"

    one.release(IDS[:3])  # of which one is not its own
    assert other.take(IDS[:3], at_most=3) == tuple(IDS[:2])


def test_what_has_a_result_is_not_claimed_unless_it_is_asked_for_again(store: Store) -> None:
    worker, ended = claims(store), [example_trial(seed=seed) for seed in range(2)]
    store.add(example_result(ended[0]))
    store.add(example_gap(ended[1], status=Status.FAILED))
    ids = [*(trial.id for trial in ended), "f" * 12]

    assert worker.take(ids, at_most=3) == ("f" * 12,)
    assert worker.take(ids, at_most=3, again=ids) == tuple(ids[:2])


def test_a_damaged_result_is_claimed_to_be_made_again(store: Store) -> None:
    result = example_result()
    store.add(result)
    with store._connection.writing():
        store._connection.execute("UPDATE result SET accuracy = 0.5")

    assert claims(store).take([result.trial.id]) == (result.trial.id,)


def test_storing_a_result_gives_back_the_claim_of_its_owner_alone(store: Store) -> None:
    one, other = claims(store), claims(store)
    trials = [example_trial(seed=seed) for seed in range(3)]
    ids = [trial.id for trial in trials]
    one.take(ids[:2], at_most=2)
    other.take(ids[2:])

    store.add(example_result(trials[0]), owner=one.owner)
    store.add(example_result(trials[2]), owner=one.owner)

    assert set(other.held_by_others(ids)) == {ids[1]}
    assert set(one.held_by_others(ids)) == {ids[2]}


def test_a_failure_that_is_not_stored_gives_back_the_claim_too(store: Store) -> None:
    one, trial = claims(store), example_trial()
    store.add(example_result(trial))
    one.take([trial.id], again=[trial.id])

    store.add(example_gap(trial), owner=one.owner)

    assert claims(store).held_by_others([trial.id]) == {}


def _claim_and_store(place: Place, barrier: Barrier) -> list[str]:
    with open_store(place) as store:
        mine = store.claims(Owner.here())
        barrier.wait(timeout=300)
        taken: list[str] = []
        while new := mine.take(IDS, at_most=10):
            taken += new
        return taken


def test_two_processes_that_claim_a_thousand_trials_at_once_share_them(place: Place) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as pool:
        barrier = manager.Barrier(2)
        taken = [work.result(timeout=300) for work in [pool.submit(_claim_and_store, place, barrier) for _ in range(2)]]

    assert sorted(taken[0] + taken[1]) == IDS


HOLDER = """
import sys, time
from hdapbench.store.claims import Owner
from hdapbench.store.place import place_of
from hdapbench.store.sqlite import open_store
with open_store(place_of(sys.argv[1])) as store:
    print(*store.claims(Owner.here()).take(sys.argv[2:], at_most=9), flush=True)
    time.sleep(600)
"""


def test_claims_of_a_killed_process_of_this_host_are_taken_at_once(place: Place, store: Store) -> None:
    mine = claims(store)
    where = place.url if isinstance(place, Postgres) else str(place)
    with subprocess.Popen([sys.executable, "-c", HOLDER, where, *IDS[:2]], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline().split() == IDS[:2]
            assert mine.take(IDS[:3], at_most=3) == (IDS[2],)
            holder.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # its parent has not asked yet how it ended
            assert mine.held_by_others(IDS[:3]) == {}
            assert mine.take(IDS[:3], at_most=3) == tuple(IDS[:2])
        finally:
            holder.kill()


def test_the_number_of_a_dead_process_that_another_one_has_now_says_nothing(store: Store) -> None:
    dead = dataclasses.replace(Owner.here(), started="1")
    assert store.claims(dead).take(IDS[:1]) == (IDS[0],)

    assert claims(store).take(IDS[:1]) == (IDS[0],)


def test_claims_of_another_host_go_on_after_a_lease_without_a_beat(store: Store) -> None:
    clock = Clock()
    far, mine = claims(store, host="elsewhere"), claims(store, clock)
    assert far.take(IDS[:1]) == (IDS[0],)

    assert mine.take(IDS[:1]) == ()
    clock.now += 59
    assert mine.take(IDS[:1]) == ()
    far.beat()
    assert mine.take(IDS[:1]) == ()
    clock.now += 59
    assert mine.held_by_others(IDS[:1]) == {IDS[0]: f"process {os.getpid()} on elsewhere"}
    clock.now += 2

    assert mine.held_by_others(IDS[:1]) == {}
    assert mine.take(IDS[:1]) == (IDS[0],)
    assert far.held_by_others(IDS[:1]) == {IDS[0]: str(mine.owner)}


def test_an_owner_that_beats_between_the_look_and_the_claim_keeps_its_trial(store: Store) -> None:
    clock = Clock()
    far, mine = claims(store, host="elsewhere"), claims(store, clock)
    far.take(IDS[:1])
    mine.take(IDS[:1])
    clock.now += 61
    look = mine._free

    def look_and_let_it_beat(*arguments: object) -> list[str]:
        free = look(*arguments)  # type: ignore[arg-type]
        far.beat()
        return free

    mine._free = look_and_let_it_beat  # type: ignore[method-assign]

    assert mine.take(IDS[:1]) == ()


def test_a_trial_that_another_worker_ends_between_the_look_and_the_claim_is_not_done_twice(store: Store) -> None:
    mine, trial = claims(store), example_trial()
    look = mine._free

    def look_and_let_it_end(*arguments: object) -> list[str]:
        free = look(*arguments)  # type: ignore[arg-type]
        store.add(example_result(trial))
        return free

    mine._free = look_and_let_it_end  # type: ignore[method-assign]

    assert mine.take([trial.id]) == ()
    assert claims(store).held_by_others([trial.id]) == {}


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_jumps_of_the_clock_of_the_day_change_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    far, mine = claims(store, host="elsewhere"), claims(store)
    far.take(IDS[:1])
    assert mine.take(IDS[:1]) == ()

    now = time.time() + jump
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))

    assert mine.take(IDS[:1]) == ()
    assert set(mine.held_by_others(IDS[:1])) == {IDS[0]}


def test_another_thread_may_beat(store: Store) -> None:
    mine = claims(store)
    mine.take(IDS[:1])
    (before,) = store._connection.execute("SELECT beat FROM claim").fetchone()
    thread = threading.Thread(target=mine.beat)

    thread.start()
    thread.join()

    assert store._connection.execute("SELECT beat FROM claim").fetchone() == (before + 1,)
