"""Long trainings that are ended go on to the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.data import training_batches
from hdapbench.models import state_hash
from hdapbench.spec import Recipe
from hdapbench.tasks import checkpoint
from hdapbench.tasks.checkpoint import Checkpoints
from hdapbench.tasks.classification import Classification
from hdapbench.tasks.regularizer import ResumableRegularizer
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.training import train_model
from tests.tasks.interrupted import images, network

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(epochs=4.0, batch_size=8)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Checkpoints:
    """Checkpoints at the end of every epoch."""
    monkeypatch.setattr(checkpoint, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))
    return Checkpoints(tmp_path / "kept", said.append)


def trained(
    kept: Checkpoints | None, *, recipe: Recipe = RECIPE, until: int = 99, regularize: Callable | None = None
) -> str | None:
    """Hash of a network after training; None when it was ended after an epoch."""

    def end(report) -> None:
        if report.epoch > until:
            raise KeyboardInterrupt

    model = network()
    setting = Setting(Classification(), checkpoints=kept)
    try:
        with (kept or Checkpoints(Path())).of("mine"):
            train_model(model, images(), recipe, setting=setting, seed=1, on_epoch=end, regularize=regularize)
    except KeyboardInterrupt:
        return None
    return state_hash(model)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "kept").rglob("*.ckpt"))


def test_a_process_that_is_killed_again_and_again_ends_with_the_weights_of_one_that_is_not(tmp_path):
    command = [sys.executable, "-m", "tests.tasks.interrupted", str(tmp_path), "0"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] == {"sgd": True, "adamw": True}
    assert found["n_kills"] >= 4
    assert done.stderr.count("goes on from epoch") >= 4
    assert "anew" not in done.stderr


def test_a_training_goes_on_from_the_epoch_that_it_was_ended_in_and_says_so(kept, said):
    trained(kept, until=2)

    assert trained(kept) == trained(None)
    assert said == ["the training goes on from epoch 3 of 4"]


def test_a_training_that_has_ended_is_not_made_again_while_its_owner_is_at_work(kept, said, monkeypatch):
    right = trained(kept)
    monkeypatch.setattr("hdapbench.tasks.stepper.Stepper.step", lambda *_: pytest.fail("it trains again"))

    assert trained(kept) == right
    assert said == []


def test_what_is_kept_of_an_owner_is_gone_when_it_is_forgotten(kept, tmp_path):
    trained(kept)
    kept.forget("mine")

    assert not (tmp_path / "kept").exists()


def test_a_training_of_seconds_leaves_no_checkpoint(tmp_path):
    trained(Checkpoints(tmp_path / "kept"))

    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:900] + b"\0" + c[901:], lambda c: b"x" * 99]
)
def test_a_damaged_checkpoint_is_said_and_the_training_begins_anew(kept, said, tmp_path, damage):
    trained(kept, until=2)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))

    assert trained(kept) == trained(None)
    assert said == [f"the checkpoint '{path}' is damaged: the training begins anew"]


def test_a_checkpoint_of_another_recipe_or_torch_is_said_and_the_training_begins_anew(kept, said, monkeypatch):
    trained(kept, until=2)
    other = RECIPE.model_copy(update={"learning_rate": 0.01})

    assert trained(kept, recipe=other, until=3) is None
    assert "is of another training (recipe), which begins anew" in said[0]

    monkeypatch.setattr(torch, "__version__", "0.1")
    assert trained(kept, recipe=other) == trained(None, recipe=other)
    assert "is of another training (torch), which begins anew" in said[1]


def test_a_full_disk_is_said_once_and_ends_no_training(tmp_path, kept, said):
    (tmp_path / "kept").write_text("no folder can be made here")

    assert trained(kept) == trained(None)
    assert len(said) == 1
    assert "cannot be written" in said[0]


class Growing(ResumableRegularizer):
    """A penalty that grows from step to step."""

    def __init__(self) -> None:
        self.weight = 0.01

    def __call__(self, model: nn.Module) -> None:
        self.weight *= 1.1
        model[0].weight.grad += self.weight * model[0].weight.detach()

    def state(self) -> dict[str, float]:
        return {"weight": self.weight}

    def resume(self, state: dict[str, float]) -> None:
        self.weight = state["weight"]


def test_a_regularizer_that_says_its_state_goes_on_from_it(kept):
    trained(kept, until=2, regularize=Growing())

    assert trained(kept, regularize=Growing()) == trained(None, regularize=Growing())


def test_a_training_is_not_kept_when_its_regularizer_may_hold_what_nobody_knows(kept, tmp_path):
    grown = Growing()

    trained(kept, until=2, regularize=grown.__call__)

    assert files(tmp_path) == []


def test_later_batches_are_those_of_the_whole_epoch_and_earlier_images_are_not_decoded():
    class Files:
        shape = torch.Size((42, 1, 8, 8))

        def __init__(self) -> None:
            self.n_decoded = 0

        def __getitem__(self, chosen: torch.Tensor) -> torch.Tensor:
            self.n_decoded += len(chosen)
            return images().images[chosen]

    for augment in ("none", "flip-crop", "shift", "resized-crop"):
        data = images()
        object.__setattr__(data, "augment", augment)
        whole = list(training_batches(data, 8, shuffle_seed=5, limit=40))
        source = Files()
        object.__setattr__(data, "images", source)

        later = list(training_batches(data, 8, shuffle_seed=5, limit=40, n_done=3))

        assert source.n_decoded == 16
        assert all(
            torch.equal(a, b)
            for found, right in zip(later, whole[3:], strict=True)
            for a, b in zip(found, right, strict=True)
        )
