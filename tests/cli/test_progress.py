"""What a run shows while it goes on: on a terminal, and in a log."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from hdapbench.cli import progress
from hdapbench.cli.main import main
from hdapbench.cli.pace import Pace
from hdapbench.leaderboard.labels import labels_of
from hdapbench.testing.store_contract import example_result
from hdapbench.trial import Result, Trial

ODD = "share [/dim] of [3/4]"
"""A text that rich would take for markup, and for one that closes what was never opened."""


@pytest.fixture
def results() -> list[Result]:
    """Two variants of a method."""
    one = example_result()
    trials = [one.trial.model_copy(update={"parameters": {"pruner": pruner}}) for pruner in ("l1", "[/b]")]
    return [one.model_copy(update={"trial": trial}) for trial in trials]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to the terminal."""
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda file: Console(file=written, force_terminal=True, width=160, color_system=None)
    )
    return written


def shown(results: list[Result]) -> tuple[Trial, ...]:
    """Trials of a run that shows its display; every step of it says something odd."""
    trials = tuple(result.trial for result in results)
    with progress.LiveProgress(trials, n_done=0) as live:
        live.phase(ODD)
        for result in results:
            live.started(result.trial)
            live.progress(ODD)
            live._bar.refresh()
            live.finished(result)
    return trials


def test_the_terminal_names_variants_as_the_board_does(results: list[Result], terminal: io.StringIO) -> None:
    first, second = shown(results)

    text = terminal.getvalue()
    assert f"{first.method} (l1) @ {first.target}, seed {first.seed}" in text
    assert f"{first.method} (l1) @ {first.target} on {first.fleet}, seed {first.seed} [{first.id}]: accuracy" in text
    assert f"{second.method} ([/b]) @ {second.target} on {second.fleet}" in text
    assert "2/2" in text


def test_texts_of_methods_are_no_markup(results: list[Result], terminal: io.StringIO) -> None:
    shown(results)

    assert terminal.getvalue().count(ODD) >= 3


def test_a_log_names_variants_and_says_how_long_is_left(
    results: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    trials = tuple(result.trial for result in results)
    log = progress.PlainProgress(trials, n_done=0)

    for result in results:
        log.started(result.trial)
        log.finished(result)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"[1/2] {trials[0].named(f'{trials[0].method} (l1)')} [{trials[0].id}]"
    assert "about 0 s left" in lines[-2]
    assert lines[-1].startswith(f"    so far at {trials[1].target}: ")


class Clock:
    """Seconds that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def paced(results: list[Result], durations: list[float], *, n_done: int = 0) -> tuple[Pace, Clock]:
    """Pace of a run whose first trials took so long."""
    clock, trials = Clock(), tuple(result.trial for result in results)
    pace = Pace(trials, labels_of(trials), n_done=n_done, now=clock)
    for result, seconds in zip(results, durations, strict=False):
        pace.started(result.trial)
        clock.seconds += seconds
        pace.finished(result)
    return pace, clock


@pytest.fixture
def grid() -> list[Result]:
    """Two seeds of a quick method and of a slow one."""
    one = example_result()
    content = [(method, seed) for seed in (0, 1) for method in ("quick", "slow")]
    trials = [one.trial.model_copy(update={"method": method, "seed": seed}) for method, seed in content]
    return [one.model_copy(update={"trial": trial}) for trial in trials]


def test_the_time_left_is_that_of_trials_like_those_that_are_left(grid: list[Result]) -> None:
    pace, _ = paced(grid, [2.0, 60.0])

    assert pace.left() == pytest.approx(62.0)
    assert paced(grid, [2.0, 60.0, 4.0])[0].left() == pytest.approx(60.0)
    assert paced(grid, [2.0, 60.0, 4.0, 50.0])[0].left() == 0.0
    assert paced(grid, [])[0].left() is None


def test_the_time_left_moves_while_a_trial_runs_and_when_it_takes_longer_than_others(grid: list[Result]) -> None:
    pace, clock = paced(grid, [2.0, 60.0, 2.0])
    pace.started(grid[3].trial)
    seen = []
    for _ in range(8):
        clock.seconds += 14.0
        seen.append(pace.left())

    assert seen[:3] == pytest.approx([46.0, 32.0, 18.0])
    assert all(later != earlier for earlier, later in pairwise(seen))
    assert min(found or 0.0 for found in seen) > 0.0


def test_counter_clock_and_time_left_fit_into_80_columns(grid: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda file: Console(file=written, force_terminal=True, width=80, color_system=None)
    )
    long = grid[1].model_copy(update={"trial": grid[1].trial.model_copy(update={"parameters": {"kind": "x" * 70}})})
    results = [grid[0], long, *grid[2:]]
    with progress.LiveProgress(tuple(result.trial for result in results), n_done=0) as live:
        for result in results[:3]:
            live.started(result.trial)
            live.progress("fine-tuning, epoch 3/40, loss 0.123, and whatever else a method may say of itself")
            live.finished(result)
            live._bar.refresh()

    shown = [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[a-zA-Z]", written.getvalue()) if "3/4" in line]
    assert shown
    assert all(re.search(r"3/4 \d:\d\d:\d\d about \d+ s left", line) for line in shown)
    assert max(map(len, shown)) <= 80
    assert "so far at 0.5x: quick 10 ms 90.0%" in written.getvalue()


def test_trials_that_run_at_once_have_a_line_each_on_a_terminal(grid: list[Result], terminal: io.StringIO) -> None:
    trials = tuple(result.trial for result in grid)
    with progress.LiveProgress(trials, n_done=0) as live:
        for trial in trials[:2]:
            live.step(trial, "waiting for the base model")
            live.started(trial)
        live.step(trials[0], "fine-tuning, epoch 1/3")
        live._bar.refresh()
        live.finished(grid[0])
        live._bar.refresh()

    frame = terminal.getvalue().partition("fine-tuning, epoch 1/3")[2].partition("0/4")[0]
    assert "slow @ 0.5x, seed 0  waiting for the base model" in frame
    assert "quick @ 0.5x on" in terminal.getvalue()
    assert live._bar.lines[0] == "slow @ 0.5x, seed 0  waiting for the base model"


def test_a_log_names_a_trial_that_ends_after_another_has_begun(
    grid: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    log = progress.PlainProgress(tuple(result.trial for result in grid), n_done=0)
    for result in grid[:2]:
        log.started(result.trial)
    log.finished(grid[0])
    log.finished(grid[2])  # another run did it

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines[:2]] == ["[1/4]", "[2/4]"]
    assert lines[2].startswith("    quick @ 0.5x on nx, seed 0 [")
    assert lines[4].startswith("    quick @ 0.5x on nx, seed 1 [")


def test_the_time_left_of_trials_that_run_at_once_is_shared_among_them(grid: list[Result]) -> None:
    pace, clock = paced(grid, [2.0, 60.0])
    pace.started(grid[2].trial)
    pace.started(grid[3].trial)
    clock.seconds += 1.0

    assert pace.left() == pytest.approx(59.0)


def test_check_and_show_tell_variants_apart(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_spec.parent)
    only = ["--set", "methods=[{name: uniform, parameters: {criterion: [l1, l2]}}]", "--set", "targets=[{flops: 0.5x}]"]

    assert main(["check", str(tiny_spec), *only]) == 0
    checked = capsys.readouterr().out
    assert main(["check", str(tiny_spec), *only, "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert main(["run", str(tiny_spec), *only, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["show", "tiny"]) == 0
    listed = capsys.readouterr().out

    for text in (checked, listed):
        assert all(f"uniform ({criterion}) @ 0.5x on six, seed 0" in text for criterion in ("l1", "l2"))
    assert {trial["parameters"].get("criterion") for trial in as_json["trials"]} == {None, "l1", "l2"}
