"""A run that is ended within a training goes on there, and its board is that of a run that was not ended."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hdapbench_methods.joint_mpq import JointMpq

from hdapbench.cli.main import main
from hdapbench.run.runner import Run
from hdapbench.run.workspace import Workspace
from hdapbench.store.sqlite import Store
from hdapbench.tasks import checkpoint
from hdapbench.tasks.checkpoint import Checkpoints
from hdapbench.tasks.stepper import Stepper
from hdapbench.testing import RecordingProblem, tiny_workbench
from tests.methods.worlds import limited

STEP = Stepper.step
SMALL = (
    *("--set", "model.name=resnet8", "--set", "methods=[uniform]", "--set", "targets=[{flops: 0.5x}]"),
    *(f"--set={part}.{key}" for part in ("base", "fine_tune") for key in ("max_train_images=96", "batch_size=32")),
    *("--set=base.epochs=3", "--set=fine_tune.epochs=3"),
)


@pytest.fixture(autouse=True)
def _kept_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))


def ended_after(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user interrupt the process after so many steps of training."""
    made = [0]

    def counted(self, *arguments):
        made[0] += 1
        if made[0] == n_steps:
            raise KeyboardInterrupt
        return STEP(self, *arguments)

    monkeypatch.setattr(Stepper, "step", counted)


@pytest.mark.usefixtures("in_the_folder_of_the_spec")
def test_a_run_that_is_ended_within_trainings_has_the_board_of_one_that_is_not(capsys):
    main(["run", "tiny.yaml", "--quiet", "--workspace", "whole", "--output", "whole.md", *SMALL])
    n_ended = 0
    for n_steps in (7, 6, 4):
        with pytest.MonkeyPatch.context() as patches:
            ended_after(n_steps, patches)
            n_ended += main(["run", "tiny.yaml", "--output", "ended.md", *SMALL]) == 130
    capsys.readouterr()

    assert main(["run", "tiny.yaml", "--output", "ended.md", *SMALL]) == 0

    assert n_ended == 3
    assert Path("ended.md").read_bytes() == Path("whole.md").read_bytes()
    assert not Workspace(Path(".hdapbench")).checkpoints.exists()


@pytest.mark.usefixtures("in_the_folder_of_the_spec")
def test_a_training_is_kept_until_its_result_is_stored_also_where_the_next_trial_begins_before(monkeypatch):
    results, add, kept = Run.results, Store.add, []
    folder = Workspace(Path(".hdapbench")).checkpoints

    def adding(self, result, **named):
        kept.append((folder / result.trial.id).exists())
        add(self, result, **named)

    monkeypatch.setattr(Run, "results", lambda self, trials: iter(list(results(self, trials))))  # as workers send them
    monkeypatch.setattr(Store, "add", adding)

    assert main(["run", "tiny.yaml", "--quiet", "--output", "board.md", *SMALL]) == 0

    assert kept == [False, True]  # the dense model is not fine-tuned
    assert not folder.exists()


@pytest.mark.parametrize("preset", ["ours", "paper"])
def test_a_search_of_bit_widths_goes_on_where_it_was_ended(tmp_path, preset, monkeypatch):
    method = JointMpq(epochs=4.0, preset=preset)
    right = method.compress(limited("0.4x size"))
    bench = replace(tiny_workbench("residual"), checkpoints=Checkpoints(tmp_path))

    def searched():
        with bench.checkpoints.of("mine"):
            return method.compress(RecordingProblem(bench, limited("0.4x size").limit))

    for n_steps in (3, 2):
        ended_after(n_steps, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            searched()
        monkeypatch.setattr(Stepper, "step", STEP)

    assert searched() == right


@pytest.mark.usefixtures("in_the_folder_of_the_spec")
def test_removing_what_nobody_names_spares_trainings_that_can_go_on(capsys):
    main(["run", "tiny.yaml", "--quiet", "--output", "tiny.md", *SMALL])
    with pytest.MonkeyPatch.context() as patches:
        ended_after(6, patches)
        main(["run", "tiny.yaml", "--quiet", *SMALL, "--set=fine_tune.learning_rate=0.01"])
    kept = Workspace(Path(".hdapbench")).checkpoints
    (ended,) = kept.iterdir()
    for name, age in (("0123456789ab", 1e5), ("base-new", 1e5), ("base-old", 1e7)):
        (kept / name).mkdir()
        os.utime(kept / name, (time.time() - age,) * 2)
    os.utime(ended, (time.time() - 1e5,) * 2)

    assert main(["results", "gc"]) == 0

    assert {path.name for path in kept.iterdir()} == {ended.name, "base-new"}
