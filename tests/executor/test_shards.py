"""Shards: machines that share no store run a part each, and the merged board is the whole one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.run.sharding import Shard
from hdapbench.testing.store_contract import example_result

ONE = example_result().trial
TRIALS = tuple(ONE.model_copy(update={"seed": seed}) for seed in range(7))


DENSE = ONE.model_copy(update={"method": "dense", "target": None})


def test_every_trial_is_in_one_shard_and_the_dense_model_in_all() -> None:
    parts = [Shard(number, 3).of((DENSE, *TRIALS)) for number in (1, 2, 3)]

    assert [part.pop(0) for part in parts] == [DENSE] * 3
    assert [len(part) for part in parts] == [3, 2, 2]
    assert {trial.id for part in parts for trial in part} == {trial.id for trial in TRIALS}


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "\u0661/\u0663"])
def test_what_is_no_shard_is_refused_before_anything_is_spent(
    text: str, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "tiny.yaml", f"--shard={text}"]) == 2

    assert f"'{text}' is no shard; write I/N" in capsys.readouterr().err
    assert not Path(".hdapbench").exists()


def test_the_board_of_merged_shards_is_that_of_an_undivided_run(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "tiny.yaml", "--quiet", "--workspace", "whole"])
    undivided = Path("leaderboards/tiny.md").read_text()
    for path in (*Path("leaderboards").glob("*.*"), *Path("leaderboards/results").iterdir()):
        path.unlink()
    for number in (1, 2):
        capsys.readouterr()
        assert main(["run", "tiny.yaml", "--quiet", "--workspace", f"part{number}", "--shard", f"{number}/2"]) == 0
    told = capsys.readouterr().err.splitlines()[-1]
    assert not Path("leaderboards/tiny.md").exists()

    for command in told.partition(": hdapbench ")[2].split(" && hdapbench "):
        words = [
            w for word in shlex.split(command) for w in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        assert main(words) == 0

    assert Path("leaderboards/tiny.md").read_text() == undivided
