"""How long ``hdapbench --help`` takes, against a bare interpreter: what a person waits for before anything is said."""

from __future__ import annotations

import subprocess
import sys
import time

HELP = [sys.executable, "-c", "from hdapbench.cli.main import main; main(['--help'])"]
BARE = [sys.executable, "-c", "pass"]
TORCH = [sys.executable, "-c", "import torch"]


CHECK = [sys.executable, "-c", "from hdapbench.cli.main import main; main(['check', 'specs/quickstart.yaml'])"]


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    return time.perf_counter() - started


def least(command: list[str], repeats: int = 5) -> float:
    """Least of several runs: what the command itself takes when nothing else is going on."""
    return min(seconds(command) for _ in range(repeats))


def test_help_starts_like_an_interpreter_and_not_like_torch(benchmark) -> None:  # type: ignore[no-untyped-def]
    benchmark.pedantic(seconds, args=(HELP,), rounds=5)
    bare, shown, torch = least(BARE), least(HELP), least(TORCH, repeats=2)
    benchmark.extra_info.update(help_over_bare=shown / bare, torch_over_help=torch / shown)

    assert shown < 12 * bare
    assert shown < torch / 3


def test_the_second_check_of_a_spec_takes_less_than_importing_torch(benchmark, tmp_path) -> None:  # type: ignore[no-untyped-def]
    check = [*CHECK[:2], CHECK[2].replace("quickstart.yaml'", f"quickstart.yaml', '--workspace', {str(tmp_path)!r}")]
    seconds(check)
    benchmark.pedantic(seconds, args=(check,), rounds=5)
    checked, torch = least(check), least(TORCH, repeats=3)
    benchmark.extra_info.update(torch_over_check=torch / checked)

    assert checked < torch
