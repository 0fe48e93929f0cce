"""Every end is an exit code and a line, wherever results cannot go; and nothing printed moves a cursor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.spec import canonical_json, load
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result, example_trial
from hdapbench.trial import DENSE, Result, Status

SPEC = """\
schema_version: 1
name: example
model: {name: resnet20, input_shape: [1, 8, 8]}
data: {name: digits}
fine_tune: {epochs: 1}
fleets: [{name: nx, kind: simulated, sku: nano, scenario: mixed, n_devices: 4}]
targets: [{flops: 0.5x}]
methods: [uniform]
"""
HOSTILE = "\x1b[2J\n# heading \u202e\x07"


def keep(workspace: Path, results: list[Result]) -> None:
    spec, ids = load("spec.yaml", []).spec, [result.trial.id for result in results]
    with open_store(workspace / "results.db") as store:
        store.register("example", spec_hash="x", spec_json=canonical_json(spec), trial_ids=ids)
        for result in results:
            store.add(result)


@pytest.fixture
def trial_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A trial of a workspace in an otherwise empty current directory, where ``board`` is a board and ``file`` a file."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)
    Path("file").write_text("a file")
    result = example_result(example_trial(DENSE)).model_copy(update={"notes": {"decisions": {"why": "2 ± 1 Ω"}}})
    keep(Path(".hdapbench"), [result])
    return result.trial.id


@pytest.mark.parametrize("path", ["file/x.png", ".", "/dev/null/x.png"])
@pytest.mark.parametrize(
    "command",
    [
        "board example --output",
        "run spec.yaml --output",
        "explain TRIAL --html",
        "export TRIAL --output",
        "fleet make --output",
        "fleet fingerprint fleet.yaml --output",
        "fleet measure fleet.yaml --output",
        "fleet calibrate fleet.yaml --output",
        "fleet cluster fleet.yaml --plot",
    ],
)
def test_a_file_that_cannot_be_written_is_a_line_before_anything_is_read(
    command: str, path: str, trial_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.replace("TRIAL", trial_id).split(), path]) == 2

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"'{path}' is a folder" in said or f"'{path}' cannot be written: " in said


def test_a_board_folder_that_is_a_file_is_found_before_the_run(
    trial_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("leaderboards").write_text("")

    assert main(["run", "spec.yaml", "--workspace", "fresh"]) == 2

    assert "'leaderboards/example.md' cannot be written" in capsys.readouterr().err
    assert not Path("fresh").exists()


def test_files_are_replaced_whole_devices_are_written_to_and_links_stay(trial_id: str) -> None:
    Path("link.html").symlink_to("page.html")
    Path("page.html").write_text("old")

    assert main(["explain", trial_id, "--html", "link.html"]) == 0
    assert main(["explain", trial_id, "--html", "/dev/null"]) == 0
    assert main(["explain", trial_id, "--html", "/dev/full"]) == 2

    assert Path("link.html").is_symlink()
    assert "<!doctype html>" in Path("page.html").read_text()
    assert not Path("/dev/null").is_file()
    assert {path.name for path in Path.cwd().iterdir()} == {"spec.yaml", "file", ".hdapbench", "link.html", "page.html"}


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "9" * 5000])
def test_numbers_that_make_no_sense_are_refused_as_arguments(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("export abcd --batch", "fleet fingerprint f.yaml --runs", "fleet drift f.parquet --devices"):
        with pytest.raises(SystemExit, match="2"):
            main([*command.split(), value])

        assert "is not a whole number of at least 1" in capsys.readouterr().err


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    hdapbench = f"{sys.executable} -c 'from hdapbench.cli.main import main; raise SystemExit(main())'"
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command.replace("hdapbench", hdapbench)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_streams_that_are_full_closed_or_ascii_end_in_a_code_and_a_line() -> None:
    full = shell("hdapbench schema > /dev/full")
    assert (full.returncode, full.stderr) == (
        2,
        "hdapbench: standard output cannot be written: No space left on device\n",
    )

    for command in ("hdapbench schema | head -c 5", "hdapbench schema >&-", "hdapbench doctor 2> /dev/full"):
        done = shell(command)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_ascii_terminals_get_a_replacement_for_what_they_cannot_show(trial_id: str) -> None:
    done = shell(f"hdapbench explain {trial_id}", PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert "why: 2 ? 1 ?" in done.stdout


def test_texts_of_others_move_no_cursor_and_make_no_line(trial_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    trial = example_trial("uniform").model_copy(update={"parameters": {"note": HOSTILE}})
    reason = example_gap(example_trial("random"), status=Status.FAILED, reason=HOSTILE)
    complete = example_result(trial, metrics=example_metrics(latency_ms=9.5))
    complete = complete.model_copy(update={"notes": {"decisions": {HOSTILE: HOSTILE}}})
    results = [example_result(example_trial(DENSE)), complete, reason]
    keep(Path("other"), results)

    for command in ("board example", "show example", f"show {trial.id}", f"explain {trial.id}"):
        assert main([*command.split(), "--workspace", "other"]) == 0
    main(["show", HOSTILE, "--workspace", "other"])
    main(["check", f"{HOSTILE}.yaml"])

    printed = capsys.readouterr()
    assert not any(letter in printed.out + printed.err for letter in "\x1b\u202e\x07")
    assert not [line for line in printed.out.splitlines() if line.startswith("# heading")]
