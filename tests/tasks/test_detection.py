from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.bench.network import Network, trace
from hdapbench.data import BoxSet, ImageSet, load_data, scenes
from hdapbench.errors import DataError, ModelError
from hdapbench.models import quiet_ultralytics
from hdapbench.plan import Plan
from hdapbench.prune.importance import importance
from hdapbench.prune.surgery import apply_plan, checked_apply, mask_model
from hdapbench.spec import DataSpec, DistillationSpec, Recipe
from hdapbench.tasks.detection import Detection, detect, suppressed
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.training import train_model
from tests.zoo import built, needs_yolo, random_plan, with_statistics

pytestmark = needs_yolo

SIDE = 64
TASK = Detection()
HEAD = "model.22"


def build(n_classes: int = 10) -> nn.Module:
    return built("ultralytics:yolov8n.yaml", (3, SIDE, SIDE), n_classes)


@pytest.fixture(scope="module")
def network() -> Network:
    """YOLOv8n with batch norms that are not the identity."""
    return trace(with_statistics(build(n_classes=3)), (3, SIDE, SIDE))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> BoxSet:
    """Sixteen digit scenes of 64x64 pixels."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scenes, "N_TRAIN", 20)
    patch.setattr(scenes, "N_TEST", 4)
    folder = tmp_path_factory.mktemp("scenes")
    found = load_data(
        DataSpec(name="digit-scenes", search_share=0.2), (3, SIDE, SIDE), base_dir=folder, cache_dir=folder
    )
    patch.undo()
    return found.train


def raw(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model(images)[1]


@pytest.mark.parametrize("seed", range(6))
def test_the_pruned_detector_computes_what_the_masked_one_computes_in_every_output(network, seed):
    """Boxes and class scores before decoding, in double precision: predictions in pixels would hide small scores."""
    plan = random_plan(network.group_set, seed)
    model = network.model.double()
    images = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    try:
        masked = raw(mask_model(model, network.group_set, plan), images)
        compact = raw(apply_plan(model, network.group_set, plan), images)
    finally:
        network.model.float()

    for part in ("boxes", "scores"):
        assert masked[part].shape == compact[part].shape
        largest = float(masked[part].abs().max())
        assert float((masked[part] - compact[part]).abs().max()) < 1e-9 * max(largest, 1.0)


def test_widths_inside_the_detection_head_shrink_on_their_own(network):
    names = [name for name in network.group_set.sizes if name.startswith(HEAD)]
    dense = {name: tuple(range(size)) for name, size in network.group_set.sizes.items()}
    images = torch.rand(1, 3, SIDE, SIDE)

    assert len(names) == 12  # two convolutions of each branch at each of three scales
    for name in names:
        model, _ = checked_apply(network.model, network.group_set, Plan(kept={**dense, name: (1,)}), images)
        assert model.get_submodule(name).out_channels == 1
        widths = np.array([[1 if other == name else size for other, size in network.group_set.sizes.items()]])
        n_params = sum(parameter.numel() for parameter in model.parameters())
        assert n_params == int(network.cost.evaluate(widths).params[0]) < network.cost.dense.params


def test_groups_run_through_split_blocks_pooling_pyramid_and_head(network):
    names = set(network.group_set.sizes)

    assert len(names) == 59
    assert {"model.2.cv0.conv", "model.2.cv1.conv", "model.9.cv1.conv"} <= names
    frozen = {group.name for group in network.group_set.frozen}
    assert frozen == {f"{HEAD}.cv2.0.2", f"{HEAD}.cv3.0.2", f"{HEAD}.dfl.conv"}  # boxes and classes: its outputs


def test_a_pruned_detector_is_trained_by_our_loop_as_it_is(network, data):
    model = apply_plan(build(), network.group_set, random_plan(network.group_set, 1, least=0.3))
    n_params = sum(parameter.numel() for parameter in model.parameters())
    recipe = Recipe(epochs=20.0, optimizer="adamw", learning_rate=2e-3, batch_size=8)
    losses: list[float] = []

    train_model(model, data, recipe, setting=Setting(TASK), seed=0, on_epoch=lambda report: losses.append(report.loss))

    assert sum(parameter.numel() for parameter in model.parameters()) == n_params
    # Boxes count by how well classes are told apart: what learns rises first, and falls when boxes fit. How far hangs on
    # the processor's rounding: to 0.6 to 0.8 of its height with five seeds.
    assert max(losses) > 2 * losses[0]
    assert fmean(losses[-4:]) < 0.95 * max(losses)
    assert not model.training


def test_the_loss_is_that_of_ultralytics_per_image(data):
    model = build().train()
    with quiet_ultralytics():
        from ultralytics.cfg import get_cfg
        from ultralytics.utils.loss import v8DetectionLoss
    model.args = get_cfg()
    images, labels = next(iter(data.batches(4, shuffle_seed=None)))
    outputs = model(images)

    expected = v8DetectionLoss(model)(
        outputs, {"batch_idx": labels[:, 0], "cls": labels[:, 1], "bboxes": labels[:, 2:]}
    )[0]

    assert float(TASK.objective(model)(outputs, labels).detach()) == pytest.approx(float(expected.sum().detach()) / 4)


def test_images_without_objects_have_a_loss(data):
    model = build().train()
    images, _ = next(iter(data.batches(2, shuffle_seed=None)))

    loss = TASK.objective(model)(model(images), torch.zeros(0, 6))
    loss.backward()

    assert math.isfinite(float(loss.detach()))


def test_gradient_criteria_read_the_detection_loss_in_evaluation_mode(network, data):
    model = build(n_classes=10)
    group_set = trace(model, (3, SIDE, SIDE)).group_set

    scores = importance(
        model, group_set, "taylor", batches=data.batches(8, shuffle_seed=None), loss=TASK.objective(model)
    )

    assert all(np.isfinite(values).all() and values.max() > 0 for values in scores.values())


class Oracle(nn.Module):
    """Predicts given boxes, as a detection head lays them out, whatever it sees."""

    def __init__(self, predictions: torch.Tensor) -> None:
        super().__init__()
        self.predictions = predictions

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.predictions[: len(images)], None


def oracle(data: BoxSet, n_classes: int = 10, shift: float = 0.0) -> Oracle:
    most = int((data.starts[1:] - data.starts[:-1]).max())
    predictions = torch.zeros(len(data), 4 + n_classes, most)
    for number in range(len(data)):
        for place, box in enumerate(data.boxes_of(number)):
            predictions[number, :4, place] = box[1:] * SIDE + torch.tensor([shift, 0, 0, 0])
            predictions[number, 4 + int(box[0]), place] = 0.9
    return Oracle(predictions)


def test_true_boxes_have_full_mean_average_precision(data):
    scores = TASK.scores(oracle(data), data)

    assert (scores.accuracy, scores.map50) == (pytest.approx(0.995), pytest.approx(0.995))  # the most there is


def test_shifted_boxes_lose_precision_at_strict_overlaps_first(data):
    scores = TASK.scores(oracle(data, shift=2.0), data)

    assert 0.2 < scores.accuracy < scores.map50 - 0.1


def test_every_image_is_judged_by_its_own_boxes(data):
    pairs = list(detect(oracle(data), data))

    assert len(pairs) == len(data)
    assert [len(truths) for _, truths in pairs] == (data.starts[1:] - data.starts[:-1]).tolist()


def test_of_overlapping_boxes_of_a_class_the_most_confident_stays():
    prediction = torch.tensor(
        [
            [20.0, 21.0, 20.0, 50.0],  # centre x of four anchors
            [20.0, 20.0, 20.0, 50.0],
            [20.0, 20.0, 20.0, 10.0],
            [20.0, 20.0, 20.0, 10.0],
            [0.6, 0.9, 0.0, 0.0005],
            [0.0, 0.0, 0.7, 0.3],
        ]
    )

    kept = suppressed(prediction)

    assert kept[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert kept[:, 5].tolist() == [0, 1, 1]
    assert kept[0, :4].tolist() == [11.0, 10.0, 31.0, 30.0]


def test_images_without_any_object_cannot_be_scored(data):
    empty = BoxSet(data.images[:2], torch.zeros(0, 5), torch.zeros(3, dtype=torch.int64))

    with pytest.raises(DataError, match="needs labelled boxes"):
        TASK.scores(oracle(data), empty)


def test_other_networks_are_refused_with_a_reason():
    with pytest.raises(ModelError, match="needs an ultralytics detection network"):
        TASK.objective(nn.Sequential(nn.Conv2d(3, 4, 1)))


def with_other_biases(model: nn.Module) -> nn.Module:
    """The model, with boxes at random and every class as likely as not."""
    head = model.get_submodule(HEAD)
    for boxes, classes in zip(head.cv2, head.cv3, strict=True):
        nn.init.normal_(boxes[-1].bias)
        nn.init.zeros_(classes[-1].bias)
    return model


def test_a_detector_has_no_distance_from_itself_and_some_from_another(data):
    images, _ = next(iter(data.batches(2, shuffle_seed=None)))
    first, second = build(), with_other_biases(build())

    own = TASK.distance(first(images), first(images), 2.0)
    other = TASK.distance(first(images), second(images), 2.0)

    assert float(own.detach()) == 0.0
    assert float(other.detach()) > 1.0


def test_distillation_brings_a_detector_nearer_to_its_teacher(data):
    teacher, student = with_other_biases(build()), build()
    images, _ = next(iter(data.batches(8, shuffle_seed=None)))
    recipe = Recipe(
        epochs=16.0, optimizer="adamw", learning_rate=5e-3, batch_size=8, distillation=DistillationSpec(weight=1.0)
    )

    def distance() -> float:
        with torch.no_grad():
            return float(TASK.distance(student(images), teacher(images), 4.0))

    before = distance()
    train_model(student, data, recipe, setting=Setting(TASK, teacher=teacher), seed=0)

    assert distance() < 0.9 * before


def test_labels_of_classes_are_not_taken_for_boxes():
    images = ImageSet(torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8), torch.arange(4), (0.0,) * 3, (1.0,) * 3)

    with pytest.raises((IndexError, DataError)):
        TASK.scores(build(), images)
