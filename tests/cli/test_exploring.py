from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.run.runner import Run
from hdapbench.store.sqlite import open_store

NET = """\
from torch import nn


def build(n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes)
    )
"""
METHODS, TARGETS, SEEDS = ("uniform", "random"), ("0.6x", "0.4x"), (0, 1)


@pytest.fixture
def spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Spec of two methods, targets and seeds on a network in a file beside it; the current folder is the spec's."""
    monkeypatch.chdir(tiny_spec.parent)
    Path("net.py").write_text(NET)
    text = (
        tiny_spec.read_text().replace("name: resnet20", 'name: "./net.py:build"').replace("epochs: 1,", "epochs: 0.2,")
    )
    text = text.replace("{flops: 0.5x}, {flops: 0.3x}", "{flops: 0.6x}, {flops: 0.4x}")
    tiny_spec.write_text(text.replace("seeds: [0]", "seeds: [0, 1]"))
    return tiny_spec


def explored(spec: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Results that a run shows."""
    capsys.readouterr()
    assert main(["run", str(spec), "--quiet", "--json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def cells(results: list[dict[str, Any]]) -> set[tuple[str, str | None, int]]:
    return {(found["trial"]["method"], found["trial"]["target"], found["trial"]["seed"]) for found in results}


def rows(
    methods: tuple[str, ...], targets: tuple[str, ...], seeds: tuple[int, ...]
) -> set[tuple[str, str | None, int]]:
    dense: set[tuple[str, str | None, int]] = {("dense", None, seed) for seed in seeds}
    return dense | {(method, target, seed) for method in methods for target in targets for seed in seeds}


def test_narrowed_runs_are_parts_of_the_whole_whose_trials_they_share(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cells(explored(spec, capsys, "--only", "uniform")) == rows(("uniform",), TARGETS, SEEDS)
    assert cells(explored(spec, capsys, "--target", "0.60x", "--seeds", "1")) == rows(METHODS, ("0.6x",), (1,))
    assert not Path("leaderboards").exists()

    assert main(["run", str(spec)]) == 0

    assert "7 of 10 trials are done and skipped" in capsys.readouterr().err
    assert "10 of 10 trials have ended" in Path("leaderboards/tiny.md").read_text()


def test_exploring_writes_no_board_but_where_it_is_told_to_and_leaves_the_benchmark_as_it_is(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(spec), "--quiet"])
    files = {path: path.read_bytes() for path in Path("leaderboards").rglob("*") if path.is_file()}
    capsys.readouterr()
    main(["board", "tiny"])
    board = capsys.readouterr().out

    for options in (
        ["--set", "seeds=[0]"],
        ["--method", "magnitude", "--target", "0.6x", "--seeds", "0"],
        ["--only", "uniform"],
        ["--target", "0.4x"],
        ["--seeds", "0"],
        ["--limit", "1"],
    ):
        assert main(["run", str(spec), "--quiet", *options]) == 0
        told = capsys.readouterr()
        assert "this run explored: no board was written; name a file with --output" in told.err
        assert "uniform" in told.out
        main(["board", "tiny"])
        assert capsys.readouterr().out == board

    assert {path: path.read_bytes() for path in Path("leaderboards").rglob("*") if path.is_file()} == files
    assert main(["run", str(spec), "--quiet", "--seeds", "0", "--output", "mine/explored.md"]) == 0
    assert [path.name for path in Path("mine").iterdir()] == ["explored.md"]
    assert "| uniform" in Path("mine/explored.md").read_text()


def test_a_run_writes_its_results_beside_its_board_and_the_clone_of_both_passes_the_check(spec: Path) -> None:
    main(["run", str(spec), "--quiet", "--output", "boards/mine.md"])

    assert sorted(str(path) for path in Path("boards").rglob("*.*")) == [
        "boards/mine.html",
        "boards/mine.md",
        "boards/results/mine.jsonl.zst",
    ]
    assert main(["results", "check", "boards"]) == 0


def test_limit_stops_after_so_many_trials_and_the_next_run_goes_on(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(explored(spec, capsys, "--limit", "3")) == 3
    assert len(explored(spec, capsys, "--limit", "2")) == 5


def test_more_methods_and_seeds_use_every_trial_that_is_stored(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(spec), "--quiet"])
    text = spec.read_text()
    spec.write_text(text.replace("[uniform, random]", "[uniform, random, magnitude]").replace("[0, 1]", "[0, 1, 2]"))

    main(["run", str(spec), "--limit", "1"])

    told = capsys.readouterr().err
    assert "10 of 21 trials are done and skipped" in told
    assert "made again" not in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("budget.device_queries=9", "budget.device_queries: default -> 9"),
        ("threads=2", "threads: 1 -> 2"),
        ("fleets[0].n_devices=8", "fleets.six.n_devices: 6 -> 8"),
    ],
)
def test_a_change_of_what_trials_depend_on_says_what_is_made_again_and_why(
    spec: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    main(["run", str(spec), "--quiet", "--limit", "3"])

    main(["check", str(spec), "--set", change])
    checked = capsys.readouterr().out
    main(["run", str(spec), "--set", change, "--limit", "1"])

    for told in (checked, capsys.readouterr().err):
        why = r"3 of 10 trials were stored( \(they took \d+ s\))?, and are made again because what they depend on has changed:"
        assert re.search(rf"{why}\n *{re.escape(said)}\n", told)


def test_a_stored_trial_is_run_again_when_it_is_named(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(spec), "--quiet"])
    results = explored(spec, capsys)
    chosen = [found["trial"] for found in results if found["trial"]["method"] == "uniform"][:2]
    with open_store(Path(".hdapbench/results.db")) as store:
        ids = [result.trial.id for result in store.results(trial_ids=store.benchmark("tiny").trial_ids)]
    board = Path("leaderboards/tiny.md").read_text()
    places = [number for number, found in enumerate(results) if found["trial"] in chosen]

    main(["run", str(spec), *(word for place in places for word in ("--rerun", ids[place][:10]))])

    told = capsys.readouterr().err
    assert "8 of 10 trials are done and skipped" in told
    assert all(f"[{ids[place]}]" in told for place in places)
    assert Path("leaderboards/tiny.md").read_text() == board


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "unifrom"], ["--only unifrom is not in the spec; did you mean 'uniform'? Known: uniform, random"]),
        (["--target", "0.5x", "--seeds", "0,7"], ["--seeds 7 is not in", "--target 0.5x is not in the spec"]),
        (["--rerun", "zzz"], ["--rerun zzz no trial of the spec has an id that begins so; hdapbench check lists them"]),
    ],
)
def test_what_the_spec_does_not_have_is_said_all_at_once_before_anything_is_spent(
    spec: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: list[str]
) -> None:
    assert main(["run", str(spec), *options]) == 2

    lines = sorted(capsys.readouterr().err.splitlines())
    assert len(lines) == len(said)
    assert all(text in line for text, line in zip(said, lines, strict=True))
    assert not Path(".hdapbench/results.db").exists()


def test_the_hint_after_an_interrupt_repeats_the_options(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hdapbench.run.runner import Run

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "results", interrupted)
    options = ["--set", "targets=[{flops: 0.6x}]", "--only", "uniform", "--seeds", "0,1", "--output", "a b.md"]

    assert main(["run", str(spec), *options]) == 130

    hint = next(line for line in capsys.readouterr().err.splitlines() if "go on with: " in line)
    assert shlex.split(hint.partition("go on with: ")[2]) == ["hdapbench", "run", str(spec), *options]


@pytest.mark.parametrize("options", [(), ("--workspace", ".hdapbench", "--exact")])
def test_results_are_verified_by_making_a_sample_of_them_again(
    spec: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    main(["run", str(spec), "--quiet", "--target", "0.6x", "--seeds", "0"])
    main(["results", "export", "tiny", "-o", "t.jsonl.zst"])
    capsys.readouterr()

    assert main(["results", "verify", "t.jsonl.zst", "--spec", str(spec), "--sample", "2", *options]) == 0

    told = capsys.readouterr()
    assert told.out.count("bit for bit") == 2
    assert "2 of 2 results hold" in told.err


def test_results_that_do_not_come_out_as_stored_fail_the_verification(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hdapbench.store.travel import Travelling, read_travelling

    main(["run", str(spec), "--quiet", "--only", "uniform", "--target", "0.6x", "--seeds", "0"])
    main(["results", "export", "tiny", "-o", "t.jsonl.zst"])
    read = read_travelling(Path("t.jsonl.zst"))
    polished = [
        found.model_copy(
            update={"metrics": found.metrics.model_copy(update={"latency_ms": found.metrics.latency_ms / 2})}
        )
        for found in read.results
        if found.metrics is not None
    ]
    Path("t.jsonl.zst").write_bytes(Travelling(read.benchmark, tuple(polished)).to_bytes())
    capsys.readouterr()

    assert main(["results", "verify", "t.jsonl.zst", "--spec", str(spec), "--sample", "1"]) == 1

    assert "DIFFERS: another simulated latency" in capsys.readouterr().out


def test_a_damaged_registration_is_made_good_by_the_run_that_is_asked_for(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(spec), "--quiet", "--limit", "1"])
    with sqlite3.connect(".hdapbench/results.db") as connection:
        connection.execute("UPDATE benchmark SET spec_json = '{}'")
    assert main(["board", "tiny"]) == 2
    assert "is damaged; run its spec again" in capsys.readouterr().err

    assert main(["run", str(spec), "--quiet", "--limit", "1"]) == 0

    assert main(["board", "tiny"]) == 0


def test_results_that_cannot_be_written_are_found_out_before_anything_is_spent(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("leaderboards").mkdir()
    Path("leaderboards/results").write_text("")

    assert main(["run", str(spec)]) == 2

    assert "leaderboards/results' is no folder; name another file" in capsys.readouterr().err
    assert not Path(".hdapbench/results.db").exists()


def test_a_rerun_that_fails_is_an_exit_code_and_leaves_the_result_that_was_stored(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hdapbench.run.attempt

    results = explored(spec, capsys, "--limit", "3")
    with open_store(Path(".hdapbench/results.db")) as store:
        (chosen,) = [i for i in store.trial_ids() if store.get(i).trial.method == "uniform"]

    def broken(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(hdapbench.run.attempt, "carry_out", broken)
        assert main(["run", str(spec), "--quiet", "--limit", "1", "--rerun", chosen]) == 1

    assert explored(spec, capsys, "--limit", "1")[:3] == results


def test_fast_is_one_seed_and_three_methods_with_the_reference_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "results", lambda *_: iter(()))

    assert main(["run", "quickstart", "--fast"]) == 0

    told = capsys.readouterr().err
    assert "quickstart: 7 trials" in told, "dense, and three methods at two targets"
    assert "this run explored: no board was written" in told
