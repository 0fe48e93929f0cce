"""A method in which the process dies is not asked for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.errors import MethodError
from hdapbench.run.deaths import counted

DIES = """\
import os, sys
from pathlib import Path
from hdapbench.run.deaths import counted
with counted(Path(sys.argv[1])):
    os._exit(3)
"""


def test_after_two_deaths_the_third_start_is_refused_and_the_count_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "running" / "trial"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", DIES, str(path)]).returncode == 3

    with (
        pytest.raises(MethodError, match=r"the process ended 2 times while this method ran: it left by os\._exit"),
        counted(path),
    ):
        pass

    with counted(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_errors_interrupts_and_other_runs_of_the_same_trial_are_no_deaths(tmp_path: Path) -> None:
    path = tmp_path / "trial"
    for error in (KeyboardInterrupt, SystemExit, ValueError):
        with pytest.raises(error), counted(path):
            raise error
    path.write_text(f"{os.getppid()}\n" * 3)

    with counted(path):
        pass
