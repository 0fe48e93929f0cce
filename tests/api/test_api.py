"""The Python interface: what a notebook does, from a spec to a board with a method of its own."""

from __future__ import annotations

import json
import linecache
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hdapbench
from hdapbench.api import Board
from hdapbench.api.running import Lines
from hdapbench.errors import MethodError, StoreError
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.class_code import class_code
from hdapbench.method.registry import MethodRegistry
from hdapbench.store.sqlite import open_store
from hdapbench.trial import Result, Status
from tests.test_docs import blocks

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first-board.ipynb"
CELL = """\
from hdapbench.method import Method
LEAST = 3
def share():
    return 0.5
class Mine(Method):
    name = "mine"
    steps: int = 1
    def compress(self, problem):
        return share(), LEAST
"""


class Leading(Method):
    """Keep the first channels of every group."""

    name = "leading"
    widths: tuple[int, ...] | list[int] = ()

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l2")


def executed(cells: list[str], names: dict[str, Any], *, are_read: bool = True) -> None:
    """Run cells as a notebook's kernel does: their text can be read under names that are no files."""
    for cell in cells:
        name = f"<cell {abs(hash(cell))}>" if are_read else "<string>"
        if are_read:
            linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        exec(compile(cell, name, "exec"), names)  # noqa: S102


def code_of(*cells: str) -> str:
    names = {"__name__": "notebook"}
    executed(list(cells), names)
    return class_code(names["Mine"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the names of the notebook stand for after its last cell, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "notebook", "folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        executed(["".join(cell["source"]) for cell in cells], names)
    return names


def test_the_notebook_runs_from_a_spec_to_a_board_with_a_method_of_its_own(notebook: dict[str, Any]) -> None:
    board: Board = notebook["board"]

    assert [result.status for result in board.results] == [Status.COMPLETE] * 3
    assert {row["label"] for row in board.rows} == {"dense", "uniform", "mine"}
    mine = next(result.trial for result in board.results if result.trial.method == "mine")
    assert (mine.parameters, len(mine.code or "")) == ({"norm": "l1"}, 16)


def test_the_python_of_the_guide_runs(notebook: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(notebook["folder"])
    names: dict[str, Any] = {}

    exec(blocks("docs/python.md", "python")[0], names)  # noqa: S102

    assert names["fastest"]
    assert names["again"].leaderboard == names["board"].leaderboard
    assert len(names["plans"]) == 3
    assert Path("front.html").is_file()


def test_a_board_is_the_same_in_every_shape(notebook: dict[str, Any]) -> None:
    board: Board = notebook["board"]
    frame, pandas = board.frame(), board.to_pandas()

    assert frame.rows(named=True) == [{k: r[k] for k in frame.columns} for r in board.rows]
    assert list(pandas["label"]) == frame["label"].to_list()
    assert {point["label"] for point in next(iter(board.plot().to_dict()["datasets"].values()))} == set(frame["label"])
    assert "<td>uniform</td>" in board._repr_html_()
    assert board._repr_markdown_() == board.to_markdown()
    assert repr(board).startswith("board 'first-board': 3 of 3 trials have ended\n0.5x, six: Fastest")


def test_a_notebook_and_the_command_line_share_trials(
    notebook: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hdapbench.cli.main import main

    monkeypatch.chdir(notebook["folder"])

    assert main(["run", "first.yaml"]) == 0

    assert "all 3 trials are done, nothing to run" in capsys.readouterr().err


def test_names_of_others_are_text_in_a_notebook() -> None:
    from hdapbench.render.notebook import notebook_html
    from hdapbench.testing.store_contract import example_gap
    from tests.boards import board, trial

    html = notebook_html(board([example_gap(trial("uniform"), reason="<script>1</script>")]))

    assert "&lt;script&gt;" in html
    assert "<script" not in html


@pytest.mark.parametrize(
    ("edited", "differs"),
    [
        (CELL.replace("steps: int = 1", "steps: int = 2"), True),
        (CELL.replace("return 0.5", "return 0.4"), True),
        (CELL.replace("LEAST = 3", "LEAST = 4"), True),
        (CELL.replace("LEAST = 3", "LEAST = lambda: 3"), True),
        (f"other = 1\n{CELL}\nprint('more')", False),
        (CELL.replace("LEAST = 3", "LEAST = 3  # three"), False),
    ],
)
def test_the_code_of_a_notebooks_class_is_its_text_and_what_it_uses(edited: str, differs: bool) -> None:
    assert (code_of(CELL) != code_of(edited)) == differs


def test_a_class_whose_text_cannot_be_read_is_refused_with_the_fix() -> None:
    names: dict[str, Any] = {"__name__": "somewhere"}
    executed([CELL], names, are_read=False)

    with pytest.raises(MethodError, match=r"source of Mine cannot be read.*methods=\['\./my_method\.py'\]"):
        MethodRegistry().add_class(names["Mine"])


def test_an_instances_lists_are_one_trial_and_no_grid(tiny_spec: Path, tmp_path: Path) -> None:
    from hdapbench.api.running import _entries
    from hdapbench.spec import load

    (entry,) = _entries(Leading(widths=[3, 4]), load(tiny_spec), MethodRegistry())

    assert entry.grid() == [{"widths": [3, 4]}]


def test_a_shipped_class_is_the_method_of_its_name_and_another_of_that_name_is_refused() -> None:
    registry = MethodRegistry()
    uniform = registry.get("uniform")

    assert (registry.add_class(uniform), registry.code("uniform")) == ("uniform", None)
    with pytest.raises(MethodError, match="two methods are called 'uniform'"):
        registry.add_class(type("Uniform", (Leading,), {"name": "uniform", "__module__": __name__}))


def test_a_name_that_the_spec_lists_has_the_parameters_that_it_has_there(tiny_spec: Path) -> None:
    from hdapbench.api.running import _entries
    from hdapbench.spec import load

    loaded = load(tiny_spec, ["methods=[{name: uniform, parameters: {criterion: [l1, l2]}}]"])

    assert [entry.parameters for entry in _entries("uniform", loaded, MethodRegistry())] == [
        {"criterion": ["l1", "l2"]}
    ]
    assert [entry.parameters for entry in _entries("random", loaded, MethodRegistry())] == [{}]


def test_no_method_at_all_and_a_workspace_without_results_are_refused(tiny_spec: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="methods is empty"):
        hdapbench.run(tiny_spec, methods=[], workspace=tmp_path / "workspace")
    with pytest.raises(MethodError, match="3 is no method: give a name, a file"):
        hdapbench.run(tiny_spec, methods=[3], workspace=tmp_path / "workspace")  # type: ignore[list-item]
    with pytest.raises(StoreError, match="run a spec first"):
        hdapbench.board("tiny", workspace=tmp_path / "workspace")


def test_loading_hdapbench_and_a_board_imports_no_torch() -> None:
    lines = "import sys, hdapbench; hdapbench.board, hdapbench.run; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", lines]).returncode == 0


def test_run_can_be_called_although_a_room_has_its_name() -> None:
    import inspect

    import hdapbench.run.grid

    assert callable(hdapbench.run)
    assert list(inspect.signature(hdapbench.run).parameters)[:2] == ["spec", "methods"]
    assert hdapbench.run.grid.plan_trials


def test_a_run_from_python_says_what_a_shell_hears_and_leaves_what_is_registered(
    tiny_spec: Path, tmp_path: Path
) -> None:
    class Said(Lines):
        def _say(self, text: str) -> None:
            said.append(text)

        def finished(self, result: Result) -> None:
            """Labels are of no trials."""

    said: list[str] = []
    place = tmp_path / "workspace"
    few: dict[str, object] = {"targets": [{"flops": "0.5x"}], "methods": ["uniform"]}
    hdapbench.run(tiny_spec, overrides=few, workspace=place, listener=Said(()))
    with open_store(place / "results.db") as store:
        assert store.benchmark("tiny").explores

    hdapbench.run(tiny_spec, overrides=few | {"threads": 2}, workspace=place, listener=Said(()))

    again = next(number for number, text in enumerate(said) if text.startswith("2 of 2 trials were stored"))
    assert said[again].endswith("are made again because what they depend on has changed:")
    assert said[again + 1] == "  threads: 1 -> 2"
