"""A small share of the list of faults; `make faults` carries out all of it, and `make fuzz` many more inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOME = ("killed", "checkpoints", "database", "decoded", "artifacts", "packed", "kernels", "code", "outputs", "plugins")


def carried_out(*options: str) -> str:
    """Table of what came of the faults; all must end right."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_share_of_the_list_of_faults_ends_right() -> None:
    assert "| killed runs |" in carried_out("--share", "0.01", "--minutes", "2", "--only", *SOME)


def test_two_thousand_inputs_that_nobody_would_write_are_taken_or_refused_in_a_line() -> None:
    assert "| fuzzing: archive |" in carried_out("--only", "fuzz", "--inputs", "2000")
