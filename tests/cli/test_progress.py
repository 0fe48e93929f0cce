"""What a run shows while it goes on: on a terminal, and in a log."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from hdapbench.cli import progress
from hdapbench.cli.main import main
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
    assert "about 0 s left" in lines[-1]


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
