from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hdapbench
from hdapbench.cli.main import main
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import Benchmark, open_store
from hdapbench.store.travel import Travelling, read_travelling
from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import DENSE, NUMBERS, Result
from tests import boards
from tests.boards import spec_of, trial

SPEC = spec_of(boards.SPEC)
FILE = Path("leaderboards/results/example.jsonl.zst")
BOARD = Path("leaderboards/example.md")


def result(method: str, *, seed: int = 0, accuracy: float = 0.9) -> Result:
    sources = {"program": str(NUMBERS)} if NUMBERS else {}
    found = trial(method, seed=seed).model_copy(update={"sources": sources})
    return example_result(found, metrics=example_metrics(accuracy=accuracy), notes={"base_hash": "b" * 64})


RESULTS = [result(DENSE), result("uniform"), result("uniform", seed=1)]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that holds the example, in an otherwise empty current directory."""
    monkeypatch.chdir(tmp_path)
    with open_store(tmp_path / ".hdapbench" / "results.db") as store:
        ids = [result.trial.id for result in RESULTS]
        store.register("example", spec_hash=spec_hash(SPEC), spec_json=canonical_json(SPEC), trial_ids=ids)
        for found in RESULTS:
            store.add(found)
    return tmp_path / ".hdapbench"


def committed() -> None:
    """A board with its results beside it, and no database, as in a clone."""
    assert main(["results", "export", "example"]) == 0
    assert main(["board", "example", "--output", str(BOARD)]) == 0
    Path(".hdapbench").rename("elsewhere")


def test_what_is_exported_is_imported_elsewhere_and_renders_the_same_board(capsys: pytest.CaptureFixture[str]) -> None:
    main(["board", "example"])
    board = capsys.readouterr().out

    assert main(["results", "export", "example"]) == 0
    assert f"wrote {FILE}: 3 of 3 results" in capsys.readouterr().err
    assert main(["results", "import", str(FILE), "--workspace", "other"]) == 0
    assert capsys.readouterr().out == f"{FILE}: 3 new, 0 replaced, 0 kept as they were\n"
    assert main(["board", "example", "--workspace", "other"]) == 0
    assert capsys.readouterr().out == board
    assert main(["results", "export", "example", "--workspace", "other", "-o", "again.jsonl.zst"]) == 0
    assert Path("again.jsonl.zst").read_bytes() == FILE.read_bytes()


def test_a_board_is_rendered_and_checked_from_a_clone_without_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    committed()
    capsys.readouterr()

    assert main(["board", "example"]) == 0
    assert capsys.readouterr().out == BOARD.read_text()
    assert main(["board", "example", "--check"]) == 0
    assert capsys.readouterr().out == f"{BOARD} is what {FILE} renders\n"
    FILE.rename("named.jsonl.zst")
    assert main(["board", "example", "--check", "--results", "named.jsonl.zst"]) == 0
    assert main(["board", "example", "--check"]) == 2
    assert "there is no database" in capsys.readouterr().err
    assert not Path(".hdapbench").exists()


def test_a_database_of_other_benchmarks_or_specs_does_not_hide_the_results_beside_a_board(
    capsys: pytest.CaptureFixture[str],
) -> None:
    committed()
    for name, seeds in (("another", (0, 1)), ("example", (7,))):
        spec = SPEC.model_copy(update={"name": name, "seeds": seeds})
        with open_store(Path(".hdapbench/results.db")) as store:
            store.register(name, spec_hash=spec_hash(spec), spec_json=canonical_json(spec), trial_ids=[], explores=True)
        assert main(["board", "example", "--check"]) == 0

    capsys.readouterr()
    assert main(["board", "exmaple"]) == 2
    assert "did you mean 'example'?" in capsys.readouterr().err


def test_results_of_another_benchmark_are_not_taken_for_those_of_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    main(["results", "export", "example"])

    assert main(["board", "another", "--results", str(FILE)]) == 2

    assert f"'{FILE}' holds results of 'example', not of 'another'" in capsys.readouterr().err


def test_check_says_of_every_board_whether_it_is_what_its_results_render(capsys: pytest.CaptureFixture[str]) -> None:
    committed()
    Path("leaderboards/older.md").write_text("# older\n")
    assert main(["results", "check"]) == 0
    told = capsys.readouterr()
    assert f"{BOARD}: is what its results render\n" in told.out
    assert "leaderboards/older.md: cannot be checked until its spec is run again" in told.out
    assert "1 right, 0 wrong, 1 cannot be checked" in told.err

    text = BOARD.read_text()
    BOARD.write_text(text.replace("90.00", "99.00"))
    assert main(["results", "check"]) == 1
    assert f"{BOARD}: differs from {FILE}; see how with: hdapbench board example --check" in capsys.readouterr().out
    BOARD.unlink()
    assert main(["results", "check"]) == 1
    assert f"{BOARD}: is missing; write it with: hdapbench board example --results" in capsys.readouterr().out
    BOARD.write_text(text)
    FILE.write_bytes(FILE.read_bytes()[:-9])
    assert main(["results", "check"]) == 1
    assert "is no file of results, or is damaged" in capsys.readouterr().out


def test_files_are_merged_and_conflicts_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main(["results", "export", "example"])
    read = read_travelling(FILE)
    Path("part.jsonl.zst").write_bytes(Travelling(read.benchmark, read.results[:2]).to_bytes())
    other = (read.results[0], result("uniform", accuracy=0.5))
    Path("other.jsonl.zst").write_bytes(Travelling(read.benchmark, other).to_bytes())

    assert main(["results", "merge", "part.jsonl.zst", str(FILE), "-o", "whole.jsonl.zst"]) == 0
    assert Path("whole.jsonl.zst").read_bytes() == FILE.read_bytes()
    capsys.readouterr()
    assert main(["results", "merge", "part.jsonl.zst", "other.jsonl.zst", "-o", "both.jsonl.zst"]) == 2
    told = capsys.readouterr().err
    assert "part.jsonl.zst and other.jsonl.zst: 1 trials have other numbers" in told
    assert told.count("\n") == 1
    assert not Path("both.jsonl.zst").exists()
    assert main(["results", "import", "other.jsonl.zst"]) == 2
    assert main(["results", "import", "other.jsonl.zst", "--keep", "theirs"]) == 0
    assert capsys.readouterr().out == "other.jsonl.zst: 0 new, 1 replaced, 1 kept as they were\n"


def artifact(workspace: Path, trial_id: str) -> Path:
    folder = workspace / "artifacts" / trial_id
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(bytes(2_000_000))
    return folder


def test_rm_removes_a_trial_or_a_benchmark_but_not_what_another_one_names(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, first, second = (result.trial.id for result in RESULTS)
    folders = [artifact(workspace, trial_id) for trial_id in (dense, first, second)]
    with open_store(workspace / "results.db") as store:
        store.register("shares", spec_hash="1" * 16, spec_json="{}", trial_ids=[dense])

    assert main(["results", "rm", second[:8], "--dry-run"]) == 0
    assert "would remove 0 specs, 1 results and 1 files or folders: 2.0 MB" in capsys.readouterr().out
    assert folders[2].exists()
    assert main(["results", "rm", second[:8]]) == 0
    assert not folders[2].exists()
    assert main(["results", "rm", "example"]) == 0
    assert "removed 1 specs, 1 results and 1 files or folders: 2.0 MB" in capsys.readouterr().out

    with open_store(workspace / "results.db") as store:
        assert (store.benchmarks(), store.trial_ids()) == (("shares",), {dense})
    assert [folder.exists() for folder in folders] == [True, False, False]
    assert main(["results", "rm", "example"]) == 2


def test_gc_frees_what_no_registered_benchmark_names_and_says_how_much(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explored, former = result("hdap"), result("fpgm")
    for found, explores in ((explored, True), (former, False)):
        spec = SPEC.model_copy(update={"seeds": (int(explores),)})
        with open_store(workspace / "results.db") as store:
            store.add(found)
            keys = {"spec_hash": spec_hash(spec), "spec_json": canonical_json(spec), "trial_ids": [found.trial.id]}
            store.register("example", explores=explores, **keys)
    with open_store(workspace / "results.db") as store:  # as it stands in its file again
        ids = [result.trial.id for result in RESULTS]
        store.register("example", spec_hash=spec_hash(SPEC), spec_json=canonical_json(SPEC), trial_ids=ids)
    kept = artifact(workspace, RESULTS[1].trial.id)
    gone = [artifact(workspace, explored.trial.id), artifact(workspace, "0" * 12)]
    fresh = artifact(workspace, "1" * 12)
    os.utime(gone[1], (time.time() - 7200,) * 2)

    assert main(["results", "gc", "--dry-run"]) == 0
    assert "would remove 1 specs, 1 results and 2 files or folders: 4.0 MB" in capsys.readouterr().out
    assert all(folder.exists() for folder in gone)
    assert main(["results", "gc"]) == 0
    assert [path.exists() for path in (kept, *gone, fresh)] == [True, False, False, True]
    assert main(["results", "gc"]) == 0
    assert capsys.readouterr().out.endswith("removed 0 specs, 0 results and 0 files or folders: 0.0 MB\n")
    assert main(["results", "gc", "--former"]) == 0

    with open_store(workspace / "results.db") as store:
        assert store.trial_ids() == {result.trial.id for result in RESULTS}
    assert main(["board", "example"]) == 0


def test_the_actions_need_no_torch_to_start(tmp_path: Path) -> None:
    code = "import sys\nfrom hdapbench.cli.main import main\nmain(['board', 'example'])\nmain(['results', 'export', 'example'])\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_results_as_json_lines_are_the_results_themselves() -> None:
    main(["results", "export", "example"])

    assert [json.loads(found.model_dump_json()) for found in read_travelling(FILE).results] == [
        json.loads(found.model_dump_json()) for found in RESULTS
    ]


def test_history_shows_rank_and_numbers_of_every_row_over_the_versions_in_git(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run([str(shutil.which("git")), *identity, *words], check=True, capture_output=True)

    git("init")
    later = Travelling(
        Benchmark("example", spec_hash(SPEC), json.loads(canonical_json(SPEC)), tuple(r.trial.id for r in RESULTS)),
        tuple(result(found.trial.method, seed=found.trial.seed, accuracy=0.8) for found in RESULTS),
    )
    main(["results", "export", "example"])
    for content in (FILE.read_bytes(), later.to_bytes()):
        FILE.write_bytes(content)
        git("add", str(FILE))
        git("commit", "-m", "Results")
    capsys.readouterr()

    assert main(["results", "history", "example"]) == 0
    title, row = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert title.startswith("0.5x on nx")
    assert re.split(r"\s{2,}", row)[0] == "uniform"
    assert row.index("90.00%") < row.index("80.00%")
    assert main(["results", "history", "example", str(FILE), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["tables"]["0.5x on nx"]
    assert table == {"uniform": [{"rank": 1, "latency_ms": pytest.approx(10.0), "accuracy": 0.8}]}
    assert main(["results", "history", "another"]) == 2
    assert "git knows no version of" in capsys.readouterr().err


def test_results_whose_spec_names_code_are_rendered_and_taken_in_without_running_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("evil.py").write_text("open('ran', 'w').close()\n")
    content = boards.SPEC | {"plugins": ["./evil.py"], "model": {"name": "./evil.py:build", "input_shape": [1, 16, 16]}}
    spec = spec_of(content)
    benchmark = Benchmark(
        "example", spec_hash(spec), json.loads(canonical_json(spec)), tuple(r.trial.id for r in RESULTS)
    )
    Path("evil.jsonl.zst").write_bytes(Travelling(benchmark, tuple(RESULTS)).to_bytes())

    assert main(["board", "example", "--results", "evil.jsonl.zst"]) == 0
    assert main(["results", "import", "evil.jsonl.zst", "--workspace", "other"]) == 0

    assert "./evil.py:build on digits" in capsys.readouterr().out
    assert not Path("ran").exists()


def test_pages_of_all_boards_and_their_index_come_from_the_results() -> None:
    assert main(["results", "pages", "boards"]) == 2
    assert main(["results", "export", "example"]) == 0

    assert main(["results", "pages", str(FILE.parent.parent)]) == 0

    assert "example" in (FILE.parent.parent / "example.html").read_text()
    assert "example.html" in (FILE.parent.parent / "index.html").read_text()


def test_a_file_of_results_or_a_folder_of_them_is_a_board_as_a_store_is(capsys: pytest.CaptureFixture[str]) -> None:
    """One machine has run a method, the other the second seed; the dense model is in both."""
    committed()
    whole, text = read_travelling(FILE), BOARD.read_text()
    halves = Path("machines")
    halves.mkdir()
    for name, chosen in (("a", RESULTS[:2]), ("b", [RESULTS[0], RESULTS[2]])):
        (halves / f"{name}.jsonl.zst").write_bytes(Travelling(whole.benchmark, tuple(chosen)).to_bytes())
    capsys.readouterr()

    for place in (str(FILE), "machines", str(BOARD.parent / "results")):
        assert main(["board", place]) == 0
        assert capsys.readouterr().out == text
        assert main(["compare", place, str(FILE)]) == 0
        assert main(["compare", f"{place}:uniform", f"{place}:dense"]) == 0
        assert "uniform" in capsys.readouterr().out
        assert hdapbench.board(place).to_markdown() == text
        assert [found.trial.id for found in hdapbench.board(place).results] == [r.trial.id for r in RESULTS]
        assert list(hdapbench.results(place)) == RESULTS


def test_a_folder_without_results_or_with_those_of_two_boards_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    committed()
    other = json.loads(canonical_json(SPEC)) | {"name": "other"}
    benchmark = Benchmark("other", spec_hash(spec_of(other)), json.loads(canonical_json(spec_of(other))), ())
    (FILE.parent / "other.jsonl.zst").write_bytes(Travelling(benchmark, ()).to_bytes())
    capsys.readouterr()

    assert main(["board", str(FILE.parent)]) == 2
    assert "they are of 'example' and 'other'; name one file of" in capsys.readouterr().err
    assert main(["board", "leaderboards/"]) == 2
    assert main(["board", "example", "--results", str(FILE)]) == 0
    assert main(["board", str(FILE), "--results", str(FILE)]) == 2
    assert "leave out --results" in capsys.readouterr().err
