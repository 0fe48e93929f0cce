"""What judges faults finds those that it is there to find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.errors import DataError
from tests.faults.arena import Attack, counted, fates
from tests.faults.fuzzing import tried


def left_file() -> None:
    pid = os.fork()
    if pid == 0:
        Path(f".{os.getpid()}-board.md").touch()
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("do", "outcome", "why"),
    [
        (lambda: None, "right", ""),
        (lambda: "another board", "silent", "another board"),
        (lambda: 1 / 0, "traceback", "ZeroDivisionError"),
        (
            lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) and None,
            "other",
            "still running: python",
        ),
        (left_file, "other", "left behind: ."),
        (lambda: Path("ran").mkdir(), "other", "code ran"),
        (lambda: print("\x1b[2J"), "other", "an escape reaches the terminal"),
        (lambda: os._exit(3), "other", "ended with 3"),
    ],
)
def test_a_fault_is_judged_by_what_it_leaves(do, outcome, why):
    (fate,) = fates([Attack("fault", "name", do)])

    assert fate.outcome == outcome
    assert why in fate.why


def test_an_input_is_refused_by_an_error_of_ours_or_is_a_fault():
    def refuse(_: bytes) -> None:
        raise DataError("no")

    tried(refuse, b"x")
    with pytest.raises(RuntimeError, match=r"ValueError: oh; input b'x'"):
        tried(raising, b"x")


def raising(_: bytes) -> None:
    raise ValueError("oh")


def test_inputs_count_one_by_one():
    found = list(fates([Attack("fuzzing", "a", lambda: None, n=50), Attack("fuzzing", "b", lambda: "no", n=50)]))

    assert dict(counted(found)["fuzzing"]) == {"right": 99, "silent": 1}
