from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.data import ImageSet
from hdapbench.errors import DataError, ModelError
from hdapbench.models import state_hash
from hdapbench.spec import Recipe
from hdapbench.tasks.classification import Classification, rightly_named
from hdapbench.tasks.schedule import learning_rate_factor
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.training import EpochReport, train_model
from hdapbench.trial import Outcomes

SETTING = Setting(Classification())
RECIPE = Recipe(epochs=3.0, learning_rate=0.1, batch_size=16)


def tiny_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)),
    )


@pytest.fixture
def data(data: ImageSet) -> ImageSet:
    return dataclasses.replace(data, augment="shift")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_training_learns(data, optimizer, schedule):
    model = tiny_network()
    recipe = Recipe(epochs=8.0, learning_rate=0.02, batch_size=16, optimizer=optimizer, schedule=schedule)

    train_model(model, data, recipe, setting=SETTING, seed=0)

    assert rightly_named(model, data).mean() > 0.95


def test_equal_seeds_train_equal_weights_and_other_seeds_others(data):
    models = [tiny_network() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        train_model(model, data, RECIPE, setting=SETTING, seed=seed)

    hashes = [state_hash(model) for model in models]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_training_does_not_depend_on_the_global_random_state_and_leaves_it_alone(data):
    models = [tiny_network() for _ in range(2)]
    for model, disturbance in zip(models, (1, 2), strict=True):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        train_model(model, data, RECIPE, setting=SETTING, seed=5)
        assert torch.equal(torch.get_rng_state(), before)

    assert state_hash(models[0]) == state_hash(models[1])


@pytest.mark.parametrize(("epochs", "images_seen", "n_reports"), [(1.0, 90, 1), (0.5, 48, 1), (1.5, 90 + 48, 2)])
def test_fractions_of_epochs_are_fractions_of_the_steps(data, epochs, images_seen, n_reports):
    reports: list[EpochReport] = []

    report = train_model(tiny_network(), data, RECIPE, setting=SETTING, epochs=epochs, seed=0, on_epoch=reports.append)

    assert (report.epochs, report.images_seen) == (epochs, images_seen)
    assert [(entry.epoch, entry.epochs) for entry in reports] == [(i + 1, n_reports) for i in range(n_reports)]
    assert reports[-1].loss == report.final_loss


def test_no_epochs_change_nothing(data):
    model = tiny_network()
    before = state_hash(model)

    report = train_model(model, data, RECIPE, setting=SETTING, epochs=0, seed=0)

    assert state_hash(model) == before
    assert (report.images_seen, report.final_loss) == (0, None)


def test_a_cap_on_images_is_a_new_draw_every_epoch(data):
    seen: list[int] = []

    class Watched(ImageSet):
        def batches(self, *args, **kwargs):
            for images, labels in super().batches(*args, **kwargs):
                seen.extend(images.mean((1, 2, 3)).tolist())
                yield images, labels

    watched = Watched(data.images, data.labels, data.mean, data.std)
    recipe = Recipe(epochs=2.0, batch_size=16, max_train_images=32)

    report = train_model(tiny_network(), watched, recipe, setting=SETTING, seed=0)

    assert report.images_seen == len(seen) == 64
    assert 32 < len(set(seen)) < 64


def test_the_model_is_in_evaluation_mode_and_contiguous_after_training(data):
    model = tiny_network()

    train_model(model, data, RECIPE, setting=SETTING, epochs=1, seed=0)

    assert not any(module.training for module in model.modules())
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_last_batch_of_one_image_is_left_out(data):
    single = ImageSet(data.images[:33], data.labels[:33], data.mean, data.std)

    assert train_model(tiny_network(), single, RECIPE, setting=SETTING, epochs=1, seed=0).images_seen == 32


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(data):
    recipe = Recipe(epochs=3.0, learning_rate=1e30, batch_size=16, schedule="constant")

    with pytest.raises(ModelError, match=r"the loss is (nan|inf) at step \d+ of 18 .*lower the recipe's learning rate"):
        train_model(tiny_network(), data, recipe, setting=SETTING, seed=0)


def test_label_smoothing_raises_the_loss_of_a_sure_model(data):
    losses = []
    for smoothing in (0.0, 0.2):
        recipe = Recipe(epochs=8.0, learning_rate=0.02, batch_size=16, label_smoothing=smoothing)
        losses.append(train_model(tiny_network(), data, recipe, setting=SETTING, seed=0).final_loss)

    assert losses[1] > losses[0] + 0.1


def test_weight_decay_shrinks_weights_but_not_norms(data):
    model = tiny_network()
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    recipe = Recipe(epochs=1.0, learning_rate=0.1, weight_decay=0.5, batch_size=16, schedule="constant")
    flat = ImageSet(torch.zeros(32, 1, 8, 8, dtype=torch.uint8), data.labels[:32], (0.0,), (1.0,))

    train_model(model, flat, recipe, setting=SETTING, seed=0)  # black images: the first weights have no gradient

    assert float(model[0].weight.detach().max()) < 0.95
    assert float(model[1].weight.detach().max()) == pytest.approx(1.0, abs=1e-3)


def test_frozen_parameters_stay(data):
    model = tiny_network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()

    train_model(model, data, RECIPE, setting=SETTING, epochs=1, seed=0)

    assert torch.equal(model[0].weight, before)


def test_one_training_image_is_refused(data):
    with pytest.raises(DataError, match="two images"):
        train_model(tiny_network(), dataclasses.replace(data, labels=data.labels[:1]), RECIPE, setting=SETTING, seed=0)


class Constant(nn.Module):
    """Always answers class 1, and notes the mode that it is called in."""

    def forward(self, images):
        assert not self.training
        return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_accuracy_is_the_share_of_right_answers_whatever_the_batches(data, batch_size):
    part = ImageSet(data.images[:25], data.labels[:25], data.mean, data.std)

    assert rightly_named(Constant(), part, batch_size=batch_size).mean() == 12 / 25


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_restores_the_mode(data, training):
    model = Constant().train(training)

    rightly_named(model, data)

    assert model.training is training


def test_accuracy_of_no_images_is_refused(data):
    with pytest.raises(DataError, match="there are none"):
        rightly_named(Constant(), ImageSet(data.images[:0], data.labels[:0], data.mean, data.std))


def test_schedules_start_peak_and_end_where_they_should():
    onecycle = [learning_rate_factor("onecycle", step, 100) for step in range(100)]
    cosine = [learning_rate_factor("cosine", step, 100) for step in range(100)]

    assert onecycle[0] == pytest.approx(0.04)
    assert (max(onecycle), onecycle.index(max(onecycle))) == (pytest.approx(1.0), 30)
    assert onecycle[-1] < 0.001
    assert cosine[0] == 1.0
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[50] == pytest.approx(0.5)
    assert math.isclose(sum(learning_rate_factor("constant", step, 7) for step in range(7)), 7.0)


def test_a_schedule_of_one_step_is_defined():
    factors = [learning_rate_factor(name, 0, 1) for name in ("onecycle", "cosine", "constant")]

    assert factors == pytest.approx([0.04, 1.0, 1.0])


def test_outcomes_say_which_images_were_named_rightly():
    right = np.random.default_rng(0).random(359) < 0.9

    stored = Outcomes.model_validate_json(Outcomes.of_images(right).model_dump_json())

    assert (stored.by_image == right).all()
    assert len(stored.model_dump_json()) < 200
