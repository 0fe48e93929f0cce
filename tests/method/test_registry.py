from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hdapbench.errors import BrokenMethodError, MethodError
from hdapbench.method.registry import MethodRegistry

GOOD = '''\
from hdapbench.method import Method, Plan, Problem

class Mine(Method):
    """Mine."""

    name = "{name}"

    def compress(self, problem: Problem) -> Plan:
        return problem.plan_by_importance({{g: 0.1 for g in problem.groups}}, "l1")
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes a file of methods."""
    return tmp_path / "mine.py"


def test_shipped_methods_are_found_by_entry_point_and_resolve_with_their_defaults() -> None:
    registry = MethodRegistry()

    assert {"hdap", "magnitude", "nni", "random", "torch-pruning", "uniform"} <= set(registry.names())
    assert registry.resolve("magnitude", {}).model_dump() == {"scope": "global", "norm": "l2", "round_to": 1}


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(MethodError, match="unknown method 'hdpa'; did you mean 'hdap'"):
        MethodRegistry().get("hdpa")


def test_wrong_parameters_are_all_named() -> None:
    problems = MethodRegistry().parameter_problems("magnitude", {"scoop": "local", "norm": "l3"})

    assert [field for field, _ in problems] == ["norm", "scoop"]
    assert "did you mean 'scope'" in problems[1][1]


def test_methods_of_a_file_are_added_under_their_names(path: Path) -> None:
    path.write_text(GOOD.format(name="mine"))
    registry = MethodRegistry()

    assert registry.add_file(path) == ("mine",)
    assert registry.get("mine").__doc__ == "Mine."
    assert registry.add_file(path) == ("mine",)  # naming a file twice is no conflict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def broken(:\n", r"SyntaxError: .* \(mine.py:1\)"),
        ("import nothing_of_this_name\n", r"ModuleNotFoundError: .*\(mine.py:1\)"),
        ("x = 1\n", "defines no subclass of hdapbench.method.Method"),
        (GOOD.format(name="x").replace('    name = "x"\n', ""), "has no name"),
        (GOOD.format(name="x").replace("name =", "name: str ="), "the name of Mine is a parameter"),
        (GOOD.format(name="x").replace("def compress", "def squeeze"), "does not define compress"),
        (GOOD.format(name="uniform"), "two methods are called 'uniform'"),
    ],
)
def test_files_that_hold_no_usable_method_are_refused_with_the_reason(path: Path, text: str, expected: str) -> None:
    path.write_text(text)

    with pytest.raises(MethodError, match=expected):
        MethodRegistry().add_file(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(mine.py:1\)"),
        (GOOD.format(name="dense"), "cannot be called 'dense'"),
        (GOOD.format(name="a | b"), "names are letters, digits"),
        (GOOD.format(name="mine") + "\n    targets = ['size']\n", r"targets of Mine is \['size'\]; write: targets = "),
        (GOOD.format(name="mine") + "\n    extra = 3\n", "extra of Mine is 3; write the name of a pip extra"),
    ],
)
def test_a_file_that_cannot_be_used_is_broken_and_the_registry_knows_why(path: Path, text: str, expected: str) -> None:
    path.write_text(text)
    registry = MethodRegistry()

    assert registry.try_file(path) == ("mine",)
    assert re.search(expected, registry.broken_files[str(path)])
    assert re.search(expected, registry.why_broken("mine") or "")
    assert registry.why_broken("uniform") is None


def test_a_broken_file_never_stands_for_the_method_whose_name_it_has(tmp_path: Path) -> None:
    path = tmp_path / "uniform.py"
    path.write_text("def broken(:\n")

    assert MethodRegistry().try_file(path) == ("uniform.py",)


def test_an_exception_names_the_file_s_own_line_and_not_that_of_a_library(path: Path) -> None:
    path.write_text(GOOD.format(name="mine") + "\n    share = 0.5\n")
    line = len(path.read_text().split("class Mine")[0].splitlines()) + 1

    with pytest.raises(MethodError, match=rf"PydanticUserError: .*`share = 0.5`.*\(mine.py:{line}\)"):
        MethodRegistry().add_file(path)


def test_what_a_file_sets_while_it_is_executed_is_undone(path: Path) -> None:
    path.write_text("import os, torch\nos.chdir('/')\ntorch.set_grad_enabled(False)\n" + GOOD.format(name="mine"))
    here = Path.cwd()

    MethodRegistry().add_file(path)

    assert Path.cwd() == here
    assert torch.is_grad_enabled()


def test_the_code_of_a_file_changes_with_it_and_that_of_a_package_is_none(path: Path) -> None:
    codes = []
    for text in (GOOD.format(name="mine"), GOOD.format(name="mine") + "# edited\n", "def broken(:\n"):
        path.write_text(text)
        registry = MethodRegistry()
        registry.try_file(path)
        codes.append(registry.code("mine"))

    assert len({*codes, None}) == 4
    assert registry.code("uniform") is None


def test_an_unknown_name_is_no_broken_method_while_all_files_are_sound() -> None:
    assert MethodRegistry().why_broken("hdpa") is None


def test_two_methods_of_one_file_with_one_name_are_both_named(path: Path) -> None:
    path.write_text(GOOD.format(name="mine") + GOOD.format(name="mine").replace("class Mine", "class Yours"))

    with pytest.raises(MethodError, match="two methods are called 'mine': Mine and Yours in"):
        MethodRegistry().add_file(path)


def test_two_files_with_one_name_are_two_modules(tmp_path: Path) -> None:
    registry = MethodRegistry()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(GOOD.format(name=folder))
        registry.add_file(tmp_path / folder / "mine.py")

    assert registry.get("a").__module__ != registry.get("b").__module__


def test_what_a_module_prints_while_it_is_imported_stays_off_stdout(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text("print('hello')\n" + GOOD.format(name="mine"))

    MethodRegistry().add_file(path)

    assert capsys.readouterr().out == ""


def test_a_validator_that_crashes_is_a_problem_of_the_parameters(path: Path) -> None:
    path.write_text(
        GOOD.format(name="mine")
        + "\n    def model_post_init(self, context: object) -> None:\n        raise RuntimeError('no')\n"
    )
    registry = MethodRegistry()
    registry.add_file(path)

    assert registry.parameter_problems("mine", {}) == [
        ("", "the parameters cannot be checked: RuntimeError: no (mine.py:12)")
    ]


PARTS = {
    "__init__.py": "from .mine import Mine\n",
    "mine.py": "from hdapbench.method import Method, Plan, Problem\nfrom .shares import SHARE\n\n\n"
    "class Mine(Method):\n    name = 'mine'\n    share: float = SHARE\n\n"
    "    def compress(self, problem: Problem) -> Plan:\n"
    "        return problem.plan_by_scores(problem.importance('l2'))\n",
    "shares.py": "SHARE = 0.5\n",
}


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for name, text in PARTS.items():
        (folder / name).write_text(text)
    return folder


def test_a_folder_is_a_method_whose_modules_import_each_other_and_whose_every_file_counts(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    registry = MethodRegistry()

    names = registry.add_file(folder)
    before = registry.code("mine")
    (folder / "shares.py").write_text("SHARE = 0.25\n")
    again = MethodRegistry()
    again.add_file(folder)

    assert names == ("mine",)
    assert registry.resolve("mine", {}).model_dump() == {"share": 0.5}
    assert before != again.code("mine")


def test_a_folder_without_init_and_a_broken_module_of_one_are_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    (folder / "shares.py").write_text("SHARE = 1 / 0\n")
    (tmp_path / "empty").mkdir()

    with pytest.raises(BrokenMethodError, match=r"ZeroDivisionError: division by zero \(shares\.py:1\)"):
        MethodRegistry().add_file(folder)
    with pytest.raises(MethodError, match=r"has no __init__\.py"):
        MethodRegistry().add_file(tmp_path / "empty")


def test_a_file_that_imports_the_one_beside_it_is_told_how(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    (folder / "alone.py").write_text("import shares\n")

    with pytest.raises(BrokenMethodError, match=r"cannot import 'shares\.py' beside it: make both a folder"):
        MethodRegistry().add_file(folder / "alone.py")


def test_a_parameter_without_a_default_is_said_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PARTS["mine.py"].replace("from .shares import SHARE\n", "").replace(" = SHARE", ""))
    registry = MethodRegistry()
    registry.add_file(file)

    assert registry.parameter_problems("mine", {}) == [
        ("share", "has no default; a spec gives it under 'parameters' of its entry in 'methods'")
    ]
