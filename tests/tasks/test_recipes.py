"""What recipes hold beside optimiser and schedule: a teacher, averaged weights, arithmetic."""

from __future__ import annotations

import dataclasses
from copy import deepcopy

import pytest
import torch
from torch import nn

from hdapbench.data import ImageSet
from hdapbench.errors import HdapbenchError
from hdapbench.models import state_hash
from hdapbench.spec import DistillationSpec, Recipe, load_spec
from hdapbench.tasks.average import WeightAverage
from hdapbench.tasks.classification import Classification, rightly_named
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.training import train_model
from hdapbench.testing import tiny_workbench

TASK = Classification()
RECIPE = Recipe(epochs=8.0, learning_rate=0.02, batch_size=16)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)),
    )


@pytest.fixture
def teacher(data) -> nn.Module:
    """A network that tells the classes apart."""
    model = network(seed=1)
    train_model(model, data, RECIPE, setting=Setting(TASK), seed=0)
    return model


def with_wrong_labels(data: ImageSet) -> ImageSet:
    return dataclasses.replace(data, labels=1 - data.labels)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 1.0), (0.9, 1.0), (0.1, 0.0)])
def test_a_student_follows_its_teacher_as_far_as_the_weight_says(data, teacher, weight, expected):
    """All labels are wrong: whoever heeds them is wrong, whoever heeds the teacher is right."""
    student = network(seed=2)
    recipe = RECIPE.model_copy(update={"distillation": DistillationSpec(weight=weight, temperature=1.0)})

    train_model(student, with_wrong_labels(data), recipe, setting=Setting(TASK, teacher=teacher), seed=0)

    assert rightly_named(student, data).mean() == pytest.approx(expected, abs=0.05)


def test_a_teacher_stays_as_it_is(data, teacher):
    teacher.train()
    before = state_hash(teacher)
    recipe = RECIPE.model_copy(update={"epochs": 1.0, "distillation": DistillationSpec()})

    train_model(network(), data, recipe, setting=Setting(TASK, teacher=teacher), seed=0)

    assert state_hash(teacher) == before
    assert teacher.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_is_heard_only_when_the_recipe_says_so(data, teacher):
    models = [network(), network()]
    for model, setting in zip(models, (Setting(TASK), Setting(TASK, teacher=teacher)), strict=True):
        train_model(model, data, RECIPE, setting=setting, seed=0)

    assert state_hash(models[0]) == state_hash(models[1])


def test_the_dense_model_teaches_what_is_fine_tuned():
    bench = tiny_workbench("plain")
    taught = dataclasses.replace(
        bench, recipe=bench.recipe.model_copy(update={"distillation": DistillationSpec(weight=1.0)})
    )
    dense, (images, _) = bench.network.model, next(iter(bench.train.batches(32, shuffle_seed=None)))
    torch.manual_seed(3)
    start = [parameter + 0.05 * torch.randn_like(parameter) for parameter in dense.parameters()]

    def distance_after(workbench) -> float:
        model = deepcopy(dense)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        workbench.trainer.fine_tune(model, epochs=1.0, seed=0)
        with torch.no_grad():
            return float(TASK.distance(model(images), dense(images), 1.0))

    assert distance_after(taught) < 0.8 * distance_after(bench)


def test_the_distance_to_oneself_is_zero_and_hardly_depends_on_the_temperature_elsewhere():
    outputs, taught = torch.tensor([[0.02, 0.0], [0.0, 0.01]]), torch.tensor([[0.0, 0.01], [0.02, 0.0]])

    assert float(TASK.distance(taught, taught, 4.0)) == pytest.approx(0.0, abs=1e-7)
    # Of small logits the divergence falls with the squared temperature, which the factor makes up for.
    assert float(TASK.distance(outputs, taught, 4.0)) == pytest.approx(
        float(TASK.distance(outputs, taught, 1.0)), rel=0.01
    )


def test_averaged_weights_are_those_of_the_closed_form():
    model = nn.Linear(1, 1, bias=False)
    values = (1.0, 5.0, -3.0, 2.0)
    with torch.no_grad():
        model.weight.fill_(values[0])
    average = WeightAverage(model, decay=0.2)
    expected = values[0]
    for step, value in enumerate(values[1:], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(model)
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    average.copy_to(model)

    assert float(model.weight.detach()) == pytest.approx(expected)


def test_an_average_of_the_present_alone_is_the_last_model_and_one_of_the_past_is_not(data):
    models = {decay: network() for decay in (None, 1e-9, 0.99)}
    for decay, model in models.items():
        train_model(model, data, RECIPE.model_copy(update={"ema": decay}), setting=Setting(TASK), seed=0)
    last, present, past = (model.state_dict() for model in models.values())

    for name, value in last.items():
        torch.testing.assert_close(present[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(past["0.weight"], last["0.weight"], atol=1e-4)
    assert not torch.allclose(past["1.running_mean"], last["1.running_mean"], atol=1e-5)
    assert int(past["1.num_batches_tracked"]) == int(last["1.num_batches_tracked"])
    assert rightly_named(models[0.99], data).mean() > 0.95


def test_bf16_training_leaves_single_precision_weights_that_learned_as_much(data):
    model = network()
    train_model(model, data, RECIPE.model_copy(update={"precision": "bf16"}), setting=Setting(TASK), seed=0)

    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert rightly_named(model, data).mean() > 0.95


def test_a_regulariser_sees_the_gradients_of_every_step_and_may_change_them(data):
    model = network()
    before = model[0].weight.detach().clone()
    seen: list[float] = []

    def hold_first_layer(trained: nn.Module) -> None:
        seen.append(float(trained[0].weight.grad.abs().max()))
        trained[0].weight.grad.zero_()

    recipe = RECIPE.model_copy(update={"epochs": 1.0, "weight_decay": 0.0})
    train_model(model, data, recipe, setting=Setting(TASK), seed=0, regularize=hold_first_layer)

    assert len(seen) == 6
    assert min(seen) > 0
    assert torch.equal(model[0].weight.detach(), before)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "base: {",
            "base: {distillation: {weight: 0.5}, ",
            "base.distillation: needs base.teacher, the trained network to learn from",
        ),
        (
            "base: {",
            "base: {teacher: {name: resnet6, weights: t.pt}, ",
            "base.teacher: is not listened to; write base.d",
        ),
        (
            "base: {",
            "base: {distillation: {}, teacher: {name: resnet6, weights: t.pt, normalize: {mean: [0.5, 0.1], std: [0.5]}}, ",
            "base.teacher.normalize: needs 1 means and",
        ),
        ("fine_tune: {", "fine_tune: {precision: amp, ", "fine_tune.precision: amp needs device: cuda"),
        ("fine_tune: {", "fine_tune: {distillation: {weight: 0}, ", "distillation.weight"),
        ("fine_tune: {", "fine_tune: {ema: 1.0, ", "fine_tune.ema"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tiny_spec, old, new, message):
    tiny_spec.write_text(tiny_spec.read_text().replace(old, new))

    with pytest.raises(HdapbenchError, match=message):
        load_spec(tiny_spec)


def test_keys_left_at_their_defaults_leave_no_trace_in_a_spec():
    """Trial ids hash the dump: those of recipes without these keys must stay what they were."""
    assert set(RECIPE.model_dump()) & {"distillation", "ema", "precision"} == set()
    assert "ema" in RECIPE.model_copy(update={"ema": 0.9}).model_dump()
