from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdapbench.errors import StoreError
from hdapbench.run.merging import merged, take_in
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import Benchmark, Store, open_store
from hdapbench.store.travel import Travelling
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, NUMBERS, Outcomes, Result, Status, Trial
from tests import boards
from tests.boards import spec_of
from tests.boards import trial as trial_of

NOTES = {"base_hash": "b" * 64, "fleet": {"sku": "xavier_nx", "n_devices": 40}, "n_clusters": 8}


def trial(method: str, **fields: Any) -> Trial:
    """Trial as this version plans it."""
    sources = {"program": str(NUMBERS)} if NUMBERS else {}
    extra = {"sources": sources | fields.pop("sources", {}), "code": fields.pop("code", None)}
    return trial_of(method, **fields).model_copy(update=extra)


def dense(**notes: Any) -> Result:
    return example_result(trial(DENSE), notes=NOTES | notes)


def result(method: str = "uniform", *, accuracy: float = 0.9, seed: int = 0, **fields: Any) -> Result:
    return example_result(trial(method, seed=seed, **fields), metrics=example_metrics(accuracy=accuracy))


def travelling(*results: Result, ids: tuple[str, ...] = (), **changes: Any) -> Travelling:
    """Results of the example with keys changed."""
    spec = spec_of(boards.SPEC | changes)
    benchmark = Benchmark(spec.name, spec_hash(spec), json.loads(canonical_json(spec)), ids)
    named = (*ids, *(result.trial.id for result in results if result.trial.id not in ids))
    return Travelling(Benchmark(spec.name, benchmark.spec_hash, benchmark.spec, named), results)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "results.db") as opened:
        yield opened


def test_parts_of_one_grid_become_the_whole_and_what_is_the_same_is_there_once() -> None:
    first, second = result(seed=0), result(seed=1)
    again = first.model_copy(update={"seconds": 99.0})

    found = merged(travelling(dense(), first), travelling(dense(), again, second))

    assert found.whole == travelling(dense(), first, second)
    assert (found.n_new, found.n_replaced) == (1, 0)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (travelling(dense(), name="another"), "they are of 'example' and 'another'"),
        (travelling(dense(), seeds=[0, 1, 2]), r"other specs: seeds: \[0, 1\] -> \[0, 1, 2\]"),
        (travelling(dense(base_hash="c" * 64)), r"other base models: bbbbbbbbbbbbbbbb \(torch 2.14.0\) and cccccccc"),
        (travelling(dense(fleet=NOTES["fleet"] | {"n_devices": 42})), "fleet nx: fleet.n_devices: 40 -> 42"),
        (travelling(dense(n_clusters=9)), "fleet nx: n_clusters: 8 -> 9"),
        (travelling(result(seed=1)), "one has no result of the dense model"),
        (travelling(dense(), result(sources={"model": "0" * 16})), "another content of the model's code"),
        (travelling(dense(), result(code="0" * 16)), "another content of the code of uniform"),
        (
            travelling(*(example_result(trial(m, sources={"program": str(NUMBERS + 1)})) for m in (DENSE, "uniform"))),
            f"computes other numbers since: versions {NUMBERS} and {NUMBERS + 1}",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_with_the_reason(theirs: Travelling, said: str) -> None:
    with pytest.raises(StoreError, match=f"do not belong on one board: .*{said}"):
        merged(travelling(dense(), result()), theirs)


def test_a_conflict_is_named_and_refused_unless_one_side_is_chosen() -> None:
    ours, theirs = travelling(dense(), result(accuracy=0.9)), travelling(dense(), result(accuracy=0.8))

    with pytest.raises(
        StoreError, match=r"1 trials have other numbers: uniform @ .*metrics.accuracy: 0.9 -> 0.8.*--keep"
    ):
        merged(ours, theirs)

    assert merged(ours, theirs, keep="ours").whole == ours
    assert merged(ours, theirs, keep="theirs").whole == theirs


@pytest.mark.parametrize("keep", [None, "ours", "theirs"])
@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT])
def test_a_failure_never_replaces_what_is_done(keep: Any, status: Status) -> None:
    failed = example_gap(result().trial, status=status)
    whole, gap = travelling(dense(), result()), travelling(dense(), failed)

    assert merged(whole, gap, keep=keep).whole == whole
    assert merged(gap, whole, keep=keep).whole == whole
    assert merged(gap, gap, keep=keep).whole == gap


def test_what_each_image_contributed_is_added_to_the_same_result_without() -> None:
    with_images = result().model_copy(update={"outcomes": Outcomes.of_images(np.arange(10) > 0)})

    for pair in ((result(), with_images), (with_images, result())):
        assert merged(*(travelling(dense(), one) for one in pair)).whole.results[1] == with_images


def test_taking_in_adds_to_the_database_what_it_lacks(store: Store) -> None:
    first, second = result(seed=0), result(seed=1)

    take_in(store, travelling(dense(), first, ids=("pending",)))
    found = take_in(store, travelling(dense(), second))

    benchmark = store.benchmark("example")
    assert benchmark.trial_ids == ("pending", dense().trial.id, first.trial.id, second.trial.id)
    assert store.results(trial_ids=benchmark.trial_ids) == [dense(), first, second]
    assert (found.n_new, found.n_replaced) == (1, 0)


def test_nothing_is_taken_in_of_what_is_refused(store: Store) -> None:
    take_in(store, travelling(dense(), result(seed=0)))

    with pytest.raises(StoreError, match="other base models"):
        take_in(store, travelling(dense(base_hash="c" * 64), result(seed=1)))
    with pytest.raises(StoreError, match="other numbers"):
        take_in(store, travelling(dense(), result(seed=0, accuracy=0.1), result(seed=1)))

    assert len(store.trial_ids()) == 2


def test_another_spec_of_the_same_name_is_taken_in_only_beside_the_one_that_stays_shown(store: Store) -> None:
    theirs = travelling(dense(), result(seed=1), seeds=[0, 1, 2])
    take_in(store, travelling(dense(), result()))

    with pytest.raises(StoreError, match=r"registered with another spec \(seeds: .*--beside"):
        take_in(store, theirs)
    take_in(store, theirs, beside=True)

    assert store.benchmark("example").spec["seeds"] == [0, 1]
    assert store.benchmark("example", spec_hash=theirs.benchmark.spec_hash).spec["seeds"] == [0, 1, 2]


def test_an_exploration_is_no_reason_to_refuse_a_benchmark(store: Store) -> None:
    explored = travelling(seeds=[5]).benchmark
    spec_json = json.dumps(explored.spec, sort_keys=True, separators=(",", ":"))
    store.register("example", spec_hash=explored.spec_hash, spec_json=spec_json, trial_ids=[], explores=True)

    take_in(store, travelling(dense(), result()))

    assert store.benchmark("example").spec["seeds"] == [0, 1]


def test_results_of_another_way_of_computing_are_not_taken_in(store: Store) -> None:
    later = [example_result(trial(m, sources={"program": str(NUMBERS + 1)})) for m in (DENSE, "uniform")]

    with pytest.raises(StoreError, match="runs here would not add to them; upgrade with"):
        take_in(store, travelling(*later))


def test_a_spec_that_this_version_does_not_know_is_not_taken_in(store: Store) -> None:
    known = travelling(dense()).benchmark
    unknown = Benchmark(known.name, known.spec_hash, known.spec | {"joules": 3}, ())

    with pytest.raises(StoreError, match=r"does not know such a spec \(joules: .*upgrade with"):
        take_in(store, Travelling(unknown, ()))
