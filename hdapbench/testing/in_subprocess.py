"""A method in another process: imported anew, and texts hash to other numbers, so sets come in another order.

Run as a module it is that other process: tasks as JSON on stdin, answers as JSON on stdout.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hdapbench.errors import MethodError
from hdapbench.method import Method, Plan
from hdapbench.method.isolation import stdout_kept_free
from hdapbench.method.registry import MethodRegistry, is_path
from hdapbench.testing import rules
from hdapbench.testing.attempt import Assignment
from hdapbench.testing.importing import watch_import
from hdapbench.testing.problems import KINDS, ModelKind
from hdapbench.testing.rules import Violation
from hdapbench.testing.source_line import OwnCode, SourceLine, forgiving

SHARE = 0.7
UNORDERED = frozenset({"set", "frozenset", "hash", "id"})


class SubprocessError(MethodError):
    """The other process ended before it gave its answers."""


def check_in_subprocess(method: Method, source: str, kinds: Sequence[ModelKind] = KINDS) -> list[Violation]:
    """Rules that a method breaks while it is imported, and `SEED` on models where another process gives another plan.

    Parameters
    ----------
    source
        The method's name, or the file that it is in: how the other process finds it.
    kinds
        Models to compare plans on; those are left out that the method fails on here.
    """
    here = plans_of(method, kinds)
    try:
        (answer,) = answers_in_subprocess([(method, source)], list(here))
    except SubprocessError as error:
        return [Violation(rules.SEED, str(error))]
    if answer.plans is None:
        return answer.imported
    message = "another process gave another plan; sets, and hash() of texts, have another order there: sort them"
    place = unordered_line(type(method))
    differing = [kind for kind in here if answer.plans.get(kind) != here[kind]]
    return [*answer.imported, *(Violation(rules.SEED, message, kind, place) for kind in differing)]


@dataclass(frozen=True)
class Answer:
    """What another process found.

    Attributes
    ----------
    plans
        What `plans_of` gives there; None when the method could not be loaded.
    imported
        Rules that the method broke while it was imported.
    """

    plans: dict[ModelKind, str] | None
    imported: list[Violation]


def answers_in_subprocess(methods: Sequence[tuple[Method, str]], kinds: Sequence[ModelKind] = KINDS) -> list[Answer]:
    """Answer for each of the methods, from one other process.

    Parameters
    ----------
    methods
        Methods and their sources, as in `check_in_subprocess`.

    Raises
    ------
    SubprocessError
        When the process cannot load a method.
    """
    tasks = []
    for method, source in methods:
        own = OwnCode.of(type(method))
        tasks.append(
            {
                "source": source,
                "name": method.name,
                "parameters": method.model_dump(mode="json"),
                "kinds": list(kinds),
                "files": sorted(own.files),
                "folders": own.folders,
            }
        )
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
        raise SubprocessError(f"another process cannot run it: {said}")
    return [TypeAdapter(Answer).validate_python(answer) for answer in json.loads(done.stdout)]


def plans_of(method: Method, kinds: Sequence[ModelKind]) -> dict[ModelKind, str]:
    """Kind of model -> id of the method's plan; of those that it skips or fails on, nothing."""
    found: dict[ModelKind, str] = {}
    for kind in kinds:
        problem = Assignment.relative(kind, SHARE).problem()
        with forgiving(), problem.budget.enforced(), stdout_kept_free():
            if method.skip(problem) is None and isinstance(plan := method.compress(problem), Plan):
                found[kind] = plan.id
    return found


def unordered_line(method: type[Method]) -> SourceLine | None:
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
    return SourceLine(file, min(lines)) if lines else None


def _other_process(tasks: Sequence[dict[str, Any]]) -> list[Answer]:
    """Answers to the tasks that `answers_in_subprocess` sends."""
    import torch

    torch.set_num_threads(1)
    return [_answer(task) for task in tasks]


def _answer(task: dict[str, Any]) -> Answer:
    registry, source, name = MethodRegistry(), task["source"], task["name"]

    def load() -> None:
        if is_path(source):
            registry.add_file(Path(source))
        registry.get(name)

    imported = watch_import(load, OwnCode(task["files"], task["folders"]))
    if any(violation.rule == rules.NETWORK for violation in imported):
        return Answer(None, imported)
    return Answer(plans_of(registry.resolve(name, task["parameters"]), task["kinds"]), imported)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(answer) for answer in _other_process(json.load(sys.stdin))]))
