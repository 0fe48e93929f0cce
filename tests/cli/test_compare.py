"""``hdapbench compare``: trials, rows and boards, in a sentence with numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hdapbench.cli.main import main
from hdapbench.plan import Plan
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, DeviceLatency, Outcomes, Result
from tests.boards import SPEC, spec_of, trial

IMAGES = np.arange(1000)


def measured(method: str, ms: float, *, wrong: int, seed: int = 0, target: str = "0.5x", width: int = 4) -> Result:
    """Result of a thousand images, the first of which are named wrongly, and of one device that was timed ten times."""
    metrics = example_metrics(latency_ms=ms, accuracy=1 - wrong / 1000, flops=100 * width)
    repeats = tuple(ms * (1 + 0.001 * number) for number in range(-5, 5))
    return example_result(trial(method, seed=seed, target=target), metrics=metrics).model_copy(
        update={
            "plan": Plan(kept={"stem": tuple(range(width)), "head": (0, 1)}),
            "devices": (DeviceLatency(device="nx-1", cluster=0, weight=1.0, samples_ms=repeats),),
            "outcomes": Outcomes.of_images(wrong <= IMAGES),
        }
    )


RESULTS = {
    name: measured(method, ms, wrong=wrong, seed=seed, width=width)
    for seed in (0, 1)
    for name, method, ms, wrong, width in (
        (f"dense{seed}", DENSE, 20.0, 10, 8),
        (f"uniform{seed}", "uniform", 10.0 + 0.01 * seed, 50, 4),
        (f"hdap{seed}", "hdap", 8.0 + 0.01 * seed, 52, 3),
    )
}
BROKEN = example_gap(trial("random"), reason="out of memory")


def register(results: list[Result], *, seeds: tuple[int, ...] = (0, 1)) -> str:
    """Put results into the database of the current directory, as the benchmark `example`; the hash of its spec."""
    spec = spec_of(SPEC | {"seeds": list(seeds), "methods": [{"name": name} for name in ("uniform", "hdap", "random")]})
    with open_store(Path(".hdapbench") / "results.db") as store:
        ids = [result.trial.id for result in results]
        store.register(spec.name, spec_hash=spec_hash(spec), spec_json=canonical_json(spec), trial_ids=ids)
        for result in results:
            store.add(result)
    return spec_hash(spec)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register([*RESULTS.values(), BROKEN])


def compared(capsys: pytest.CaptureFixture[str], first: str, second: str) -> tuple[str, list[str]]:
    """Sentence, and the lines after it."""
    assert main(["compare", first, second]) == 0
    sentence, *others = capsys.readouterr().out.splitlines()
    return sentence, others


def test_two_trials_are_compared_on_their_repeats_and_on_the_same_images(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = RESULTS["uniform0"].trial.id, RESULTS["hdap0"].trial.id
    sentence, lines = compared(capsys, one, other)

    assert f"[{other}] is 20.0 % (" in sentence
    assert f"faster than uniform @ 0.5x on nx, seed 0 [{one}]; it is 0.20 points (" in sentence
    assert "less accurate" in sentence
    assert "with -25.0% FLOPs; widths differ in 1 of 2 groups." in sentence
    assert [line for line in lines if line.startswith("| stem")] == ["| stem          |     4 |      3 |"]
    assert not [line for line in lines if "head" in line]

    assert main(["compare", one, other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ratio, points = found["latency_ratio_less_one"], found["accuracy_difference"]
    assert ratio["value"] == pytest.approx(-0.2)
    assert -0.21 < ratio["low"] < ratio["value"] < ratio["high"] < -0.19
    assert points["value"] == pytest.approx(-0.002)
    assert points["low"] < points["value"] < points["high"]
    assert points["high"] - points["low"] < 0.02  # two images differ: unpaired, it would be 0.04


def test_two_rows_are_compared_as_their_board_compares_them(capsys: pytest.CaptureFixture[str]) -> None:
    sentence, lines = compared(capsys, "example:hdap", "example:uniform@0.5x")

    assert main(["board", "example", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["sections"][0]["rows"]
    slower = next(row["slower"] for row in rows if row["label"] == "uniform")
    said = f"{slower['value']:.1%} ({slower['low'] * 100:.1f} to {slower['high'] * 100:.1f})".replace("%", " %")
    assert sentence.startswith(f"uniform @ 0.5x on nx is {said} slower than hdap @ 0.5x on nx; it is 0.20 points")
    assert lines[1].startswith("| of ")


def test_rows_of_the_same_accuracy_are_said_to_be_as_accurate(capsys: pytest.CaptureFixture[str]) -> None:
    same = [measured("fpgm", 9.0, wrong=50, seed=seed, width=5) for seed in (0, 1)]
    register([*RESULTS.values(), *same])

    sentence, _ = compared(capsys, "example:uniform", "example:fpgm")

    assert re.search(r"; it is as accurate \(-\d\.\d\d to \+\d\.\d\d points\), with \+25\.0% FLOPs", sentence)


def test_a_row_is_compared_with_dense_as_the_board_does_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    forth, _ = compared(capsys, "example:dense", "example:hdap")
    back, _ = compared(capsys, "example:hdap", "example:dense")

    assert re.match(
        r"hdap @ 0\.5x on nx is 60\.0 % \(.*\) faster than dense on nx; it is 4\.20 points \(.*\) less", forth
    )
    assert re.match(
        r"dense on nx is 149\.8 % \(.*\) slower than hdap @ 0\.5x on nx; it is 4\.20 points \(.*\) more", back
    )


def test_two_boards_differ_in_rows_that_appear_vanish_and_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "example", "--output", "before.json"]) == 0
    slow = [measured("hdap", 12.0 + seed, wrong=52, seed=seed, width=3) for seed in (0, 1)]
    kept = [RESULTS[name] for name in ("dense0", "dense1", "uniform0", "uniform1")]
    later = register([*kept, *slow])
    capsys.readouterr()

    sentence, lines = compared(capsys, "before.json", "example")
    same, _ = compared(capsys, "example", f"example@{later}")

    assert sentence == (
        "From before.json to example, of 3 rows 0 appear, 0 vanish, 2 change, 1 stay. "
        "First at 0.5x on nx: uniform after hdap."
    )
    assert any("| 1 > 2 |" in line and line.startswith("| hdap ") for line in lines)
    assert same.endswith("0 appear, 0 vanish, 0 change, 3 stay.")


def test_trials_of_other_data_or_fleets_have_no_interval_and_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    other = RESULTS["hdap0"].trial.model_copy(update={"context": "d" * 16})
    with open_store(Path(".hdapbench") / "results.db") as store:
        store.add(RESULTS["hdap0"].model_copy(update={"trial": other}))

    sentence, _ = compared(capsys, RESULTS["uniform0"].trial.id, other.id)

    assert "is 20.0 % faster than" in sentence
    assert sentence.endswith("Without an interval: their model, data or recipes differ.")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("example:uniform", "example:nobody", "has no row 'nobody'; its rows: hdap; uniform"),
        ("example:uniform", "other:uniform", "rows of two boards"),
        ("example", RESULTS["hdap0"].trial.id, "are a board and a trial"),
        ("example", "example:uniform", "is a row, and the other is none"),
        ("example", "example@0000000000000000", "no spec of 'example' has the hash"),
        (RESULTS["hdap0"].trial.id, BROKEN.trial.id, "has no numbers to compare: failed: out of memory"),
        ("example", "board.md", "holds a board for people"),
        ("example", "broken.json", "is no board as JSON"),
        ("example", "absent.json", "No such file"),
        ("nothing", "example", "nothing"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    first: str, second: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.json").write_text('{"schema": 1, "name": []}')

    assert main(["compare", first, second]) == 2

    assert reason in capsys.readouterr().err
