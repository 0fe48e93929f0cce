from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.run import inspection

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("in_the_folder_of_the_spec")

MINE = '''\
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.plans import filled


class Last(Method):
    """Keep the last channels of every group."""

    name = "last"

    def compress(self, problem: Problem) -> Plan:
        """Plan of the largest common share under the target."""
        share = problem.solve_ratio()
        scores = {name: range(group.n_channels) for name, group in problem.groups.items()}
        widths = {name: max(1, int(share * group.n_channels)) for name, group in problem.groups.items()}
        return filled(problem, problem.plan_by_widths(widths, scores), scores)
'''


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from hdapbench.cli.main import main; sys.exit(main())", *arguments]


def n_results(database: Path) -> int:
    if not database.exists():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM result").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_a_run_ends_in_a_board_and_a_second_run_has_nothing_to_do(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tiny_spec)]) == 0
    first = capsys.readouterr()
    board = Path("leaderboards/tiny.md").read_text()
    assert main(["run", str(tiny_spec)]) == 0
    second = capsys.readouterr()

    assert "[5/5]" in first.err
    assert "all 5 trials are done, nothing to run" in second.err
    assert "[1/5]" not in second.err
    assert Path("leaderboards/tiny.md").read_text() == board
    assert "uniform" in board
    assert "simulated: nano" in board
    assert main(["board", "tiny", "--check"]) == 0


def test_a_killed_run_goes_on_where_it_stopped_and_gives_the_undisturbed_board(tiny_spec: Path) -> None:
    folder = tiny_spec.parent
    undisturbed = folder / "undisturbed"
    killed = folder / "killed"
    subprocess.run(
        command("run", str(tiny_spec), "--workspace", str(undisturbed)), check=True, cwd=folder, capture_output=True
    )
    expected = Path(folder / "leaderboards/tiny.md").read_text()

    process = subprocess.Popen(
        command("run", str(tiny_spec), "--workspace", str(killed)),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while n_results(killed / "results.db") < 2 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stored = n_results(killed / "results.db")
    resumed = subprocess.run(
        command("run", str(tiny_spec), "--workspace", str(killed)),
        check=True,
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert stored >= 2
    assert f"{stored} of 5 trials are done and skipped" in resumed.stderr or stored == 5
    assert resumed.stderr.count("] ") >= 5 - stored
    assert Path(folder / "leaderboards/tiny.md").read_text() == expected


def test_a_method_from_a_file_runs_and_appears_on_the_board(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(MINE)

    assert len(MINE.splitlines()) <= 20
    assert main(["methods", "test", "./mine.py"]) == 0
    board = ["--output", "leaderboards/explored.md"]
    assert main(["run", str(tiny_spec), "--method", "./mine.py", "--set", "targets=[{flops: 0.5x}]", *board]) == 0

    assert "| last" in Path("leaderboards/explored.md").read_text()
    assert "last" in capsys.readouterr().out


def test_a_plan_above_the_target_is_infeasible_and_says_by_how_much(tiny_spec: Path) -> None:
    Path("greedy.py").write_text(
        MINE.replace("share = problem.solve_ratio()", "share = 1.0")
        .replace("filled(problem, ", "(")
        .replace(", scores), scores)", ", scores))")
    )

    board = ["--output", "explored.md"]
    main(["run", str(tiny_spec), "--method", "./greedy.py", "--set", "targets=[{flops: 0.5x}]", *board])

    assert "100.0% above the target" in Path("explored.md").read_text()


def test_check_lists_trials_and_groups_and_spends_nothing(tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny_spec)]) == 0

    out = capsys.readouterr().out
    assert "trials: 5, of which 0 done" in out
    assert "frozen linear" in out
    assert "target 0.5x" in out
    assert not Path(".hdapbench/results.db").exists()


def test_check_fails_when_a_target_is_out_of_reach(tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny_spec), "--set", "targets=[{flops: 0.0001x}]"]) == 1

    assert "OUT OF REACH" in capsys.readouterr().out


def test_unknown_methods_and_parameters_are_located_in_the_spec(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tiny_spec.read_text().replace(
        "methods: [uniform, random]",
        "methods:\n  - unifrom\n  - {name: magnitude, parameters: {scoop: local, norm: l3}}",
    )
    tiny_spec.write_text(text)

    assert main(["check", str(tiny_spec)]) == 2

    problems = capsys.readouterr().err.strip().splitlines()
    assert len(problems) == 3
    assert ":11:5 methods[0]: unknown method 'unifrom'; did you mean 'uniform'?" in problems[0]
    assert any("did you mean 'scope'?" in problem for problem in problems)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["schema"], ["check", "absent.yaml"], ["show"], ["methods"], ["methods", "hdap"]]
)
def test_commands_that_need_no_torch_import_none(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hdapbench.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'sklearn', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0


def test_the_second_check_of_a_model_imports_no_torch(tiny_spec: Path) -> None:
    code = "import sys\nfrom hdapbench.cli.main import main\nmain(['check', 'tiny.yaml'])\nsys.exit('torch' in sys.modules)"
    runs = [subprocess.run([sys.executable, "-c", code], cwd=tiny_spec.parent, capture_output=True) for _ in range(2)]

    assert [run.returncode for run in runs] == [1, 0]


def test_the_second_check_of_every_shipped_spec_imports_no_torch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = {"flops": 10**9, "params": 1, "minimum_flops": 1, "n_groups": 1, "widths": [1], "frozen": {}}
    found |= {"product_flops": 0, "counts_products": True}
    monkeypatch.setattr(inspection, "_trace", lambda *_, **__: dict(found))  # what takes long, once
    specs = [str(path) for path in sorted((ROOT / "specs").glob("*.yaml"))]
    for spec in specs:
        main(["check", spec])
    code = (
        "import sys\nfrom hdapbench.cli.main import main\n"
        f"for spec in {specs!r}:\n    main(['check', spec])\n    assert 'torch' not in sys.modules, spec"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    n_refused = done.stderr.count("there is no '")  # data that are not beside the checkout
    assert done.stdout.count("trials: ") + n_refused >= len(specs)


@pytest.mark.parametrize(("asked", "found"), [(None, "passive"), ("active", "active")])
def test_threads_of_a_run_sleep_while_they_wait_unless_the_user_says_otherwise(
    asked: str | None, found: str, tmp_path: Path
) -> None:
    code = "import os\nfrom hdapbench.cli.main import main\nmain(['run', 'absent.yaml'])\nprint(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if asked:
        environment["OMP_WAIT_POLICY"] = asked

    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert run.stdout.split() == [found]


def test_the_doctor_names_every_package_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0

    found = {finding["package"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["torch"]["version"]
    assert all(finding["version"] or "pip install" in finding["remedy"] for finding in found.values())
