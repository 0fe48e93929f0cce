from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hdapbench.errors import StoreError
from hdapbench.leaderboard.build import build_from_briefs
from hdapbench.render.markdown import render_markdown
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store import moving
from hdapbench.store.moving import copy_all, damaged
from hdapbench.store.place import Place
from hdapbench.store.sqlite import Store, open_store
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result, example_trial
from hdapbench.trial import DENSE, Outcomes, Status
from tests import boards
from tests.boards import spec_of, trial

SPEC = spec_of(boards.SPEC)
RESULTS = [
    example_result(trial(DENSE), notes={"base_hash": "b" * 64}),
    example_result(trial("uniform")).model_copy(update={"outcomes": Outcomes.of_images(np.arange(359) % 3 > 0)}),
    example_result(trial("uniform", seed=1), metrics=example_metrics(latency_ms=1 / 3)),
    example_gap(trial("random"), status=Status.FAILED, reason="é 'quoted'\n\u2028"),
]
IDS = [result.trial.id for result in RESULTS]


def fill(store: Store) -> None:
    store.register("explored", spec_hash="9" * 16, spec_json="{}", trial_ids=IDS[:1], explores=True)
    store.register("older", spec_hash="1" * 16, spec_json='{"name":"older"}', trial_ids=IDS[:1])
    store.register("example", spec_hash=spec_hash(SPEC), spec_json=canonical_json(SPEC), trial_ids=IDS)
    for result in RESULTS:
        store.add(result)


def rows(store: Store) -> list[list[tuple[object, ...]]]:
    tables = ("benchmark", "benchmark_trial", "result", "device_latency", "brief")
    return [sorted(map(tuple, store.connection.execute(f"SELECT * FROM {table}")), key=repr) for table in tables]  # noqa: S608 - of this list


def board(store: Store) -> str:
    benchmark = store.benchmark("example")
    return render_markdown(build_from_briefs(benchmark, store.briefs(trial_ids=benchmark.trial_ids)))


def test_there_and_back_every_row_and_the_board_are_the_same(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "TOGETHER", 3)
    with (
        open_store(tmp_path / "first.db") as first,
        open_store(place) as between,
        open_store(tmp_path / "last.db") as last,
    ):
        fill(first)

        there = copy_all(first, between)
        copy_all(between, last)

        assert (there.n_results, there.n_kept, there.n_specs, bool(there.damaged)) == (4, 0, 3, False)
        assert rows(first) == rows(between) == rows(last)
        assert board(first) == board(between) == board(last)
        assert first.benchmarks() == between.benchmarks() == last.benchmarks()
        again = copy_all(first, last)
        assert (again.n_results, again.n_kept, again.n_specs) == (0, 4, 0)


def test_what_is_damaged_is_told_and_stays_behind(place: Place, tmp_path: Path) -> None:
    with open_store(place) as source, open_store(tmp_path / "target.db") as target:
        fill(source)
        assert not damaged(source)
        source.connection.execute("UPDATE result SET accuracy = 0.5 WHERE trial_id = ?", (IDS[1],))
        source.connection.execute("UPDATE benchmark SET spec_json = '{}' WHERE name = 'older'")

        copied = copy_all(source, target)

        assert damaged(source) == copied.damaged
        assert (copied.damaged.trial_ids, copied.damaged.specs) == ((IDS[1],), ("older",))
        assert target.trial_ids() == {*IDS} - {IDS[1]}
        assert not damaged(target)
        assert target.benchmarks() == ("example", "explored")


@pytest.mark.parametrize("keep", ["ours", "theirs"])
def test_results_that_differ_are_refused_until_it_is_said_which_stay(place: Place, tmp_path: Path, keep: str) -> None:
    other = example_result(trial("uniform"), metrics=example_metrics(latency_ms=77.0))
    with open_store(tmp_path / "source.db") as source, open_store(place) as target:
        fill(source)
        target.add(other)

        with pytest.raises(StoreError, match=rf"differ: {IDS[1]}; name which stay with --keep ours or --keep theirs"):
            copy_all(source, target)
        assert target.trial_ids() == {IDS[1]}
        copy_all(source, target, keep=keep)  # type: ignore[arg-type]

        assert target.get(IDS[1]) == (other if keep == "ours" else RESULTS[1])
        assert target.trial_ids() == set(IDS)


def test_a_result_that_is_damaged_in_the_target_is_replaced(place: Place, tmp_path: Path) -> None:
    with open_store(tmp_path / "source.db") as source, open_store(place) as target:
        fill(source)
        copy_all(source, target)
        target.connection.execute("DELETE FROM device_latency WHERE trial_id = ?", (IDS[0],))

        assert copy_all(source, target).n_results == 1
        assert not damaged(target)


def test_the_benchmark_that_is_shown_stays_the_one_shown(place: Place, tmp_path: Path) -> None:
    with open_store(tmp_path / "source.db") as source, open_store(place) as target:
        fill(source)
        target.register("example", spec_hash="5" * 16, spec_json="{}", trial_ids=["x"])
        target.register("example", spec_hash="4" * 16, spec_json="{}", trial_ids=["y"])

        copy_all(source, target)

        assert target.benchmark("example").spec_hash == "4" * 16
        assert target.benchmark("example", spec_hash=spec_hash(SPEC)).trial_ids == tuple(IDS)


def test_claims_stay_where_they_are(place: Place, tmp_path: Path) -> None:
    from hdapbench.store.claims import Owner

    with open_store(place) as source, open_store(tmp_path / "target.db") as target:
        source.add(example_result())
        source.claims(Owner.here()).take([example_trial(seed=5).id])

        copy_all(source, target)

        assert target.connection.execute("SELECT count(*) FROM claim").fetchone() == (0,)
