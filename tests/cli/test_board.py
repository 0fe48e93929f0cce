from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.spec import Spec, canonical_json, spec_hash
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Result, Status
from tests import boards
from tests.boards import spec_of, trial

SPEC = spec_of(boards.SPEC | {"methods": [{"name": "uniform"}, {"name": "hdap"}]})


RESULTS: list[Result] = [
    example_result(trial(DENSE), metrics=example_metrics(latency_ms=20.0, accuracy=0.95)),
    example_result(trial("uniform"), metrics=example_metrics(latency_ms=9.5)),
    example_result(trial("uniform", seed=1), metrics=example_metrics(latency_ms=10.5)),
    example_gap(trial("hdap"), status=Status.FAILED, reason="out of memory"),
]


def register(workspace: Path, spec: Spec, results: list[Result], *, pending: tuple[str, ...] = ()) -> None:
    with open_store(workspace / "results.db") as store:
        ids = [*(result.trial.id for result in results), *pending]
        store.register(spec.name, spec_hash=spec_hash(spec), spec_json=canonical_json(spec), trial_ids=ids)
        for result in results:
            store.add(result)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that holds the example, in an otherwise empty current directory."""
    monkeypatch.chdir(tmp_path)
    register(tmp_path / ".hdapbench", SPEC, RESULTS, pending=("pending",))
    return tmp_path / ".hdapbench"


def test_board_prints_markdown_on_stdout(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["board", "example"])

    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    assert captured.out.startswith("# example\n")
    assert "4 of 5 trials have ended." in captured.out
    assert "Fastest within 1 point of the most accurate (uniform, " in captured.out
    assert "**uniform**, 9.987 ms" in captured.out
    assert "(simulated" in captured.out


def test_board_takes_a_spec_file_for_the_name_in_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace.parent / "any-file.yaml").write_text(canonical_json(SPEC))  # JSON is YAML

    assert main(["board", "any-file.yaml"]) == 0
    assert capsys.readouterr().out.startswith("# example\n")


def test_board_shows_only_the_trials_of_the_spec_registered_last(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(workspace, SPEC.model_copy(update={"seeds": (0,)}), RESULTS[:2])

    main(["board", "example"])

    out = capsys.readouterr().out
    assert "2 of 2 trials have ended." in out
    assert "9.500 ms" in out
    assert "out of memory" not in out


def test_the_written_file_is_what_is_printed_and_passes_the_check(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["board", "example"])
    printed = capsys.readouterr().out

    assert main(["board", "example", "--output", "leaderboards/example.md"]) == 0
    assert capsys.readouterr().out == ""
    assert Path("leaderboards/example.md").read_text(encoding="utf-8") == printed
    assert main(["board", "example", "--check"]) == 0
    assert main(["board", "example", "--check", "--output", "leaderboards/example.md"]) == 0


def test_the_check_fails_with_the_difference_and_the_remedy(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["board", "example", "--output", "leaderboards/example.md"])
    board = Path("leaderboards/example.md")
    edited = board.read_text(encoding="utf-8").replace("out of memory", "a polished reason")
    board.write_text(edited, encoding="utf-8")
    capsys.readouterr()

    code = main(["board", "example", "--check"])

    captured = capsys.readouterr()
    changed = [line for line in captured.out.splitlines() if line.startswith(("+", "-")) and "method" not in line]
    assert code == 1
    assert any(line.startswith("-") and "a polished reason" in line for line in changed)
    assert any(line.startswith("+") and "out of memory" in line for line in changed)
    assert "hdapbench board example --output leaderboards/example.md" in captured.err
    assert board.read_text(encoding="utf-8") == edited, "a check changes nothing"


def test_the_check_fails_with_a_short_difference_when_the_file_is_absent(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", "example", "--check"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 41
    assert not Path("leaderboards").exists()


def test_two_processes_render_the_same_bytes(workspace: Path) -> None:
    def render(hash_seed: str) -> bytes:
        code = "import sys; from hdapbench.cli.main import main; sys.exit(main(['board', 'example']))"
        command = [sys.executable, "-c", code]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    first, second = render("1"), render("2")

    assert first.startswith(b"# example")
    assert first == second


def test_board_as_json_holds_rows_gaps_and_provenance(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "example", "--json"]) == 0

    board = json.loads(capsys.readouterr().out)
    (section,) = board["sections"]
    (row,) = section["rows"]
    assert row["latency_ms"]["low"] < row["latency_ms"]["value"] == pytest.approx(9.987, rel=1e-3)
    assert (row["rank"], row["n_seeds"]) == (1, 2)
    assert section["gaps"] == [{"label": "hdap", "seed": 0, "status": "failed", "reason": "out of memory"}]
    assert board["spec_hash"] == spec_hash(SPEC)
    assert board["environments"][0]["torch"] == "2.14.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["board", "exmaple"],
            "hdapbench: no benchmark 'exmaple' in the database; did you mean 'example'? Known: example",
        ),
        (["show", "zzz"], "hdapbench: no trial whose id begins with 'zzz'"),
        (["board", "example", "--workspace", "elsewhere"], "hdapbench: there is no database 'elsewhere/results.db'"),
        (["show", "--workspace", "elsewhere"], "hdapbench: there is no database 'elsewhere/results.db'"),
    ],
)
def test_what_is_unknown_is_one_line_and_exit_code_2(
    workspace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert not Path("elsewhere").exists()


def test_show_lists_the_benchmarks(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(workspace, SPEC.model_copy(update={"name": "later"}), [])

    main(["show"])
    assert capsys.readouterr().out == "later\nexample\n"
    main(["show", "--json"])
    assert json.loads(capsys.readouterr().out) == ["later", "example"]


def test_show_lists_the_trials_of_a_benchmark_with_their_outcome(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "example"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[result.trial.id, result.status] for result in RESULTS]
    assert "accuracy 90.00%, 9.5 ms (simulated)" in lines[1]
    assert lines[3].endswith("failed: out of memory")


def test_show_tells_all_about_one_trial(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", RESULTS[1].trial.id[:8]]) == 0

    out = capsys.readouterr().out
    for expected in (
        "uniform @ 0.5x on nx, seed 0",
        "status: complete",
        "320 device queries, 4 accuracy evaluations, 1.5 training epochs, 2.2 s; 7.5 s in all",
        "  flops: 990",
        "  params: 9,900",
        "  cluster 0, 75.0% of the fleet, nx-003: 9.5 ms, 3 repeats from 9.25 to 9.75",
        "  cluster 1, 25.0% of the fleet, nx-017: 12 ms, 3 repeats from 11.5 to 13.25",
        "  conv1: 3",
        "hdapbench 0.1.0",
    ):
        assert expected in out


def test_show_gives_the_reason_of_a_trial_without_numbers(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", RESULTS[3].trial.id])

    out = capsys.readouterr().out
    assert "status: failed (out of memory)" in out
    assert "metrics" not in out


@pytest.mark.parametrize("result", RESULTS)
def test_show_as_json_is_the_result_itself(workspace: Path, capsys: pytest.CaptureFixture[str], result: Result) -> None:
    main(["show", result.trial.id, "--json"])

    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert Result.model_validate_json(json.dumps(shown)) == result


def test_reading_results_imports_no_torch(workspace: Path) -> None:
    code = (
        "import sys, hdapbench.render.terminal; from hdapbench.cli.main import main\n"
        "main(['board', 'example']); main(['show', 'example']); print('torch' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "False"


def test_board_writes_the_form_that_the_suffix_names(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "example", "--output", "boards/example.html"]) == 0
    assert main(["board", "example", "--output", "boards/example.svg"]) == 0

    assert capsys.readouterr().err == "wrote boards/example.html\nwrote boards/example.svg\n"
    assert Path("boards/example.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Path("boards/example.svg").read_text(encoding="utf-8").startswith("<svg")
