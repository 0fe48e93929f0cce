from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials
from hdapbench.spec import load
from hdapbench.store.sqlite import open_store

BEFORE = Path(__file__).parent / "quickstart_before"
"""What commit e6a91a3 made of the quickstart: its spec and its database; and the board that is rendered from it today."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "results.db").write_bytes(lzma.decompress((BEFORE / "results.db.xz").read_bytes()))
    return tmp_path


def test_the_database_of_before_renders_a_board(workspace: Path) -> None:
    """Write it anew with HDAPBENCH_UPDATE_GOLDEN=1, and read the difference."""
    board = workspace / "board.md"

    assert main(["board", "quickstart", "--workspace", str(workspace), "--output", str(board)]) == 0

    if os.environ.get("HDAPBENCH_UPDATE_GOLDEN"):
        (BEFORE / "board.md").write_bytes(board.read_bytes())
    assert board.read_bytes() == (BEFORE / "board.md").read_bytes()


def test_no_trial_of_before_is_taken_for_one_of_today(workspace: Path) -> None:
    """Since then simulated plans have noise of their own: `NUMBERS` names all trials anew."""
    trials = plan_trials(load(str(BEFORE / "quickstart.yaml"), []), MethodRegistry())

    with open_store(workspace / "results.db") as store:
        before = store.benchmark("quickstart").trial_ids

    assert len(before) == len(trials) - 1, "the dense model is measured in the session of every seed"
    assert not set(before) & {trial.id for trial in trials}
    unnumbered = [trial.model_copy(update={"sources": {}}) for trial in trials]
    assert set(before) <= {trial.id for trial in unnumbered}, "nothing else has changed what trials are called"
