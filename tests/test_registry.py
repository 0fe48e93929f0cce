from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hdapbench.errors import MethodError
from hdapbench.registry import MethodRegistry

GOOD = '''\
from hdapbench.method import Method, Plan, Problem

class Mine(Method):
    """Mine."""

    name = "{name}"

    def compress(self, problem: Problem) -> Plan:
        return problem.plan_by_importance({{g: 0.1 for g in problem.groups}}, "l1")
'''


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


def test_methods_of_a_file_are_added_under_their_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
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
        (GOOD.format(name="x").replace("def compress", "def squeeze"), "does not define compress"),
        (GOOD.format(name="uniform"), "two methods are called 'uniform'"),
    ],
)
def test_files_that_hold_no_usable_method_are_refused_with_the_reason(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)

    with pytest.raises(MethodError, match=expected):
        MethodRegistry().add_file(path)


def test_two_packages_with_one_method_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("twin", f"package_{letter}:Twin", "hdapbench.methods") for letter in "ab"]
    monkeypatch.setattr("hdapbench.registry.entry_points", lambda group: points)

    with pytest.raises(MethodError, match="package_a:Twin and package_b:Twin"):
        MethodRegistry().get("twin")


def test_a_package_that_cannot_be_imported_is_listed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("gone", "no_such_package:Gone", "hdapbench.methods")
    monkeypatch.setattr("hdapbench.registry.entry_points", lambda group: [point])
    registry = MethodRegistry()

    assert registry.names() == ("gone",)
    with pytest.raises(MethodError, match="cannot be imported: ModuleNotFoundError"):
        registry.get("gone")
