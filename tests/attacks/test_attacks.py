"""A small share of the attack list; `make attack` carries out all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOME = ("database", "decoded", "artifacts", "packed", "kernels", "code", "outputs", "plugins")


def test_a_share_of_the_attack_list_ends_right() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.attacks", "--share", "0.01", "--minutes", "1"]

    done = subprocess.run([*command, "--only", *SOME], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "| results.db damaged |" in done.stdout
