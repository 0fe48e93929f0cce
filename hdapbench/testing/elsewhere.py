"""The same seed in another process: texts hash to other numbers there, so sets come in another order.

Run as a module it is that other process: a task as JSON on stdin, plans as JSON on stdout.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdapbench.errors import MethodError
from hdapbench.method import Method, Plan
from hdapbench.registry import MethodRegistry, is_path
from hdapbench.settings import stdout_kept_free
from hdapbench.testing import rules
from hdapbench.testing.attempt import Task
from hdapbench.testing.place import Place, forgiving
from hdapbench.testing.problems import KINDS, ModelKind
from hdapbench.testing.rules import Violation

SHARE = 0.7
UNORDERED = frozenset({"set", "frozenset", "hash", "id"})


class ElsewhereError(MethodError):
    """The other process ended before it gave its plans."""


def check_elsewhere(method: Method, source: str, kinds: Sequence[ModelKind] = KINDS) -> list[Violation]:
    """`SEED` violations on models where another process gives another plan; models are left out that fail here.

    Parameters
    ----------
    source
        The method's name, or the file that it is in: how the other process finds it.
    """
    here = plans_of(method, kinds)
    try:
        (elsewhere,) = plans_elsewhere([(method, source)], list(here))
    except ElsewhereError as error:
        return [Violation(rules.SEED, str(error))]
    message = "another process gave another plan; sets, and hash() of texts, have another order there: sort them"
    place = unordered_line(type(method))
    return [Violation(rules.SEED, message, kind, place) for kind in here if elsewhere.get(kind) != here[kind]]


def plans_elsewhere(
    methods: Sequence[tuple[Method, str]], kinds: Sequence[ModelKind] = KINDS
) -> list[dict[ModelKind, str]]:
    """What `plans_of` gives for each of the methods in one other process, in which texts hash to other numbers.

    Parameters
    ----------
    methods
        Methods and their sources, as in `check_elsewhere`.

    Raises
    ------
    ElsewhereError
        When the process cannot load a method.
    """
    tasks = [
        {"source": source, "name": method.name, "parameters": method.model_dump(mode="json"), "kinds": list(kinds)}
        for method, source in methods
    ]
    done = subprocess.run(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-m", __name__],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ElsewhereError(f"another process cannot run it: {said}")
    plans: list[dict[ModelKind, str]] = json.loads(done.stdout)
    return plans


def plans_of(method: Method, kinds: Sequence[ModelKind]) -> dict[ModelKind, str]:
    """Kind of model -> id of the method's plan; of those that it skips or fails on, nothing."""
    found: dict[ModelKind, str] = {}
    for kind in kinds:
        problem = Task.relative(kind, SHARE).problem()
        with forgiving(), problem.budget.enforced(), stdout_kept_free():
            if method.skip(problem) is None and isinstance(plan := method.compress(problem), Plan):
                found[kind] = plan.id
    return found


def unordered_line(method: type[Method]) -> Place | None:
    """First line of a method's module that makes a set or a hash, or None."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    if file is None:
        return None
    lines = [
        node.lineno
        for node in ast.walk(ast.parse(Path(file).read_bytes()))
        if isinstance(node, ast.Set | ast.SetComp)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNORDERED)
    ]
    return Place(file, min(lines)) if lines else None


def _other_process(tasks: Sequence[dict[str, Any]]) -> list[dict[ModelKind, str]]:
    """Plans of the tasks that `plans_elsewhere` sends."""
    import torch

    torch.set_num_threads(1)
    found = []
    for task in tasks:
        registry = MethodRegistry()
        if is_path(task["source"]):
            registry.add_file(Path(task["source"]))
        found.append(plans_of(registry.resolve(task["name"], task["parameters"]), task["kinds"]))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_other_process(json.load(sys.stdin))))
