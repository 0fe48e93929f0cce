"""Trials of several runs of one store: each is done once, and what others do is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.cli.progress import Silence
from hdapbench.run import supply as supplying
from hdapbench.run.supply import Supply
from hdapbench.store.claims import Owner
from hdapbench.store.sqlite import Store, open_store
from hdapbench.testing.store_contract import example_result
from hdapbench.trial import Result, Status


class Heard(Silence):
    def __init__(self) -> None:
        self.phases: list[str] = []
        self.ended: list[str] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def finished(self, result: Result) -> None:
        self.ended.append(result.trial.id)


RESULTS = [
    example_result().model_copy(update={"trial": example_result().trial.model_copy(update={"seed": seed})})
    for seed in range(3)
]
TRIALS = [result.trial for result in RESULTS]


def one(store: Store, heard: Heard, **options: object) -> Supply:
    return Supply(TRIALS, store, store.claims(Owner.here()), heard, **options)  # type: ignore[arg-type]


def test_each_trial_is_handed_out_by_one_run_and_the_others_wait_for_what_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    with open_store(tmp_path / "results.db") as here, open_store(tmp_path / "results.db") as there:
        mine, theirs = one(here, heard), one(there, Heard())
        first, second = mine.next(), theirs.next()
        third = mine.next()
        assert (first, second, third) == tuple(TRIALS)
        assert mine.next() is None
        assert not mine.is_over

        there.add(RESULTS[1], owner=theirs.owner)

        assert mine.next() is None
        assert mine.is_over
    assert heard.phases == [f"1 of the trials are done by {theirs.owner}; waiting for them"]
    assert heard.ended == [TRIALS[1].id]


def test_what_a_run_gave_up_goes_on_in_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supplying, "POLL_SECONDS", 0.0)
    with open_store(tmp_path / "results.db") as here, open_store(tmp_path / "results.db") as there:
        mine, theirs = one(here, Heard()), one(there, Heard())
        with theirs.kept():
            assert theirs.next() == TRIALS[0]

        assert list(mine) == TRIALS


def test_a_limit_counts_what_this_run_hands_out_and_failures_are_tried_again_on_request(tmp_path: Path) -> None:
    failed = RESULTS[0].model_copy(update={"status": Status.FAILED, "metrics": None, "devices": (), "reason": "x"})
    with open_store(tmp_path / "results.db") as store:
        store.add(failed)

        assert list(one(store, Heard(), limit=1)) == [TRIALS[1]]
        assert list(one(store, Heard(), limit=1, again={TRIALS[0].id})) == [TRIALS[0]]
