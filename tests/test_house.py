"""What the layout of the package promises: few rooms with a map each, no imports upward, light start-up."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"hdapbench": ROOT / "hdapbench", "hdapbench_methods": ROOT / "methods"}
HEAVY = {
    *(
        "torch",
        "torchvision",
        "ultralytics",
        "timm",
        "safetensors",
        "psycopg",
        "torch_pruning",
        "nni",
        "sklearn",
        "scipy",
        "polars",
        "onnx",
    ),
    *(
        "onnxruntime",
        "ray",
        "stable_baselines3",
        "gymnasium",
        "cma",
        "matplotlib",
        "altair",
        "vl_convert",
        "pandas",
        "PIL",
    ),
    "pytest",
}
"""Packages whose import takes long or that may be missing: what loads them is imported where it is used."""


def modules() -> dict[str, Path]:
    """Dotted name of every module -> its file."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = (package, *file.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported(module: str, statement: ast.stmt) -> Iterator[str]:
    """Modules that an import statement loads."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            base = f"{package}.{base}".rstrip(".")
        for alias in statement.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in MODULES else base


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module that run when it is imported, those for type checkers left out."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from at_import_time(getattr(statement, part, []))


@cache
def loads(module: str) -> frozenset[str]:
    """Heavy packages that importing a module loads, those of what it imports included."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.partition(".")[0] in HEAVY:
            found.add(name.partition(".")[0])
        if name in MODULES:
            packages = name.split(".")
            waiting += [".".join(packages[:n]) for n in range(1, len(packages))]
            for statement in at_import_time(tree(name).body):
                waiting += imported(name, statement)
    return frozenset(found)


def inside_functions(module: str) -> Iterator[ast.stmt]:
    """Import statements inside functions."""
    for function in ast.walk(tree(module)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from (node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom)))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith("hdapbench.cli")))
def test_imports_inside_functions_load_something_heavy(module: str) -> None:
    light = [
        f"{MODULES[module].relative_to(ROOT)}:{statement.lineno}: {name}"
        for statement in inside_functions(module)
        for name in imported(module, statement)
        if not loads(name)
    ]

    assert not light, "import these at the top of the file"


def test_the_root_has_at_most_six_modules() -> None:
    found = {file.stem for file in FOLDERS["hdapbench"].glob("*.py")} - {"__init__", "__main__"}

    assert len(found) <= 6, sorted(found)


@pytest.mark.parametrize("module", sorted(name for name, file in MODULES.items() if file.name == "__init__.py"))
def test_every_room_has_a_map_of_one_line(module: str) -> None:
    text = ast.get_docstring(tree(module))

    assert text, f"{module} says nowhere what is in it"
    assert len(text.partition("\n")[0]) <= 120


def test_no_class_has_more_than_250_lines() -> None:
    long = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ClassDef)
    }

    assert not {name: n for name, n in long.items() if n > 250}


def test_a_problem_has_at_most_twenty_public_members() -> None:
    from hdapbench.testing import tiny_problem

    members = [name for name in dir(tiny_problem()) if not name.startswith("_") and name != "decisions"]

    assert len(members) <= 20, members


def test_one_module_alone_sees_the_test_split() -> None:
    seen = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr == "test" and not module.startswith("hdapbench.data")
    }

    assert seen == {"hdapbench.run.evaluate", "hdapbench.testing.dataset_contract"}  # the latter of plug-ins' own data


SOME_SYSTEMS = {
    "os": {
        *(
            "fork",
            "forkpty",
            "getuid",
            "geteuid",
            "getgid",
            "getpgid",
            "killpg",
            "setsid",
            "nice",
            "getloadavg",
            "sysconf",
        ),
        *("pread", "pwrite", "posix_fallocate", "mkfifo", "mknod", "uname", "statvfs", "pidfd_open", "memfd_create"),
        *("setpriority", "getpriority", "waitid", "register_at_fork", "O_DIRECTORY", "O_NOFOLLOW"),
    },
    "signal": {"setitimer", "getitimer", "alarm", "pause", "pthread_sigmask", "pthread_kill"},
    "ctypes": {"CDLL"},
}
"""Of modules of Python's own: what Windows or macOS lacks, besides ``os.sched_*`` and signals but SIGINT and SIGTERM."""
SOME_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "msvcrt", "winreg"}
GUARD = re.compile(r"hasattr\((os|signal|resource)|os\.name|sys\.platform|platform\.system\(\)|on_windows\(\)")


def is_of_some_systems(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name in SOME_MODULES for alias in node.names)
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
        return False
    module, name = node.value.id, node.attr
    return (
        name in SOME_SYSTEMS.get(module, ())
        or (module == "os" and name.startswith(("sched_", "PRIO_", "wait", "WNO", "WIF", "WEXIT")))
        or (module == "signal" and name.startswith(("SIG", "ITIMER")) and name not in FOR_ALL)
    )


FOR_ALL = {"SIGINT", "SIGTERM", "SIG_IGN", "SIG_DFL", "Signals", "SIGABRT"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_only_some_systems_have_is_used_where_that_is_asked_first(module: str) -> None:
    """In the same function or class; a module that is imported under ``try`` may lack."""
    text = MODULES[module].read_text().splitlines()
    unguarded = [
        f"{MODULES[module].relative_to(ROOT)}:{node.lineno}"
        for part in tree(module).body
        if not GUARD.search("\n".join(text[part.lineno - 1 : part.end_lineno]))
        and not (isinstance(part, ast.Try) and any("ImportError" in ast.unparse(h) for h in part.handlers))
        for node in ast.walk(part)
        if is_of_some_systems(node)
    ]

    assert not unguarded, "ask for it first: hasattr(os, ...), sys.platform, os.name"


def test_the_walk_from_compress_to_the_board_names_what_is_there_in_its_order() -> None:
    steps = re.findall(r"`([a-z_/]+\.py)` `(\w+)`", (ROOT / "docs" / "walk.md").read_text())
    lines = {
        (file, node.name): node.lineno
        for file in {file for file, _ in steps}
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }

    assert [step for step in steps if step not in lines] == []
    stages = [lines[step] for step in steps if step[0] == "hdapbench/run/evaluate.py"]
    assert len(stages) == 5
    assert stages == sorted(stages)


def test_the_import_contracts_hold() -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_every_package_is_installed() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]

    packages = [name for name, file in MODULES.items() if file.name == "__init__.py"]
    assert sorted(listed) == sorted([*packages, "hdapbench_specs"])


def test_benchmarks_hold_nothing_but_benchmarks() -> None:
    assert not [file.name for file in (ROOT / "benchmarks").glob("*.py") if not file.name.startswith("test_")]


def test_the_heavy_list_names_packages_that_are_used() -> None:
    used = {
        name.partition(".")[0]
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in imported(module, node)
    }

    assert used >= HEAVY, sorted(HEAVY - used)
    assert not HEAVY & set(sys.stdlib_module_names)
