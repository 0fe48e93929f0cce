"""Object detection with ultralytics networks: their loss, our training loop, mean average precision.

ultralytics' own trainer is not used: it rebuilds the network from its yaml, which undoes physical pruning, and it
writes folders, settings and fonts.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.errors import DataError, ModelError
from hdapbench.models import quiet_ultralytics
from hdapbench.tasks.average_precision import match, pseudo_values
from hdapbench.tasks.task import Objective, Scores, Task
from hdapbench.trial import Outcomes

if TYPE_CHECKING:
    from hdapbench.data import Samples

LEAST_CONFIDENCE = 0.001
NMS_IOU = 0.7
MOST_DETECTIONS = 300
"""As ultralytics validates: detections below this confidence, overlapping more, or beyond so many per image go."""

MOST_CANDIDATES = 5000
"""Boxes per image that enter non-maximum suppression, the most confident ones; it takes their square in time."""

GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
"""Weights of the three parts of the loss, as YOLOv8 is trained."""

BATCH_SIZE = 32


class Detection(Task):
    """Labelled boxes. Labels are boxes of shape (m, 6): number of the image in the batch, class, centre, extent."""

    name = "detection"
    metric = "mAP50-95"

    def objective(self, model: nn.Module, *, label_smoothing: float = 0.0) -> Objective:  # noqa: ARG002
        """YOLOv8's loss: task-aligned assignment, CIoU, distribution focal loss, binary cross-entropy.

        Raises
        ------
        ModelError
            When the network has no detection head of ultralytics with one-to-many assignment.
        """
        head = detection_head(model)
        with quiet_ultralytics():
            from ultralytics.utils.loss import v8DetectionLoss

            whole = SimpleNamespace(parameters=model.parameters, args=GAINS, model=[head])
            criterion = v8DetectionLoss(whole)

        def loss(outputs: Any, labels: Tensor) -> Tensor:
            batch = {"batch_idx": labels[:, 0], "cls": labels[:, 1], "bboxes": labels[:, 2:]}
            raw = _raw(outputs)
            total: Tensor = criterion(raw, batch)[0].sum()
            return total / raw["scores"].shape[0]  # ultralytics multiplies by the batch size

        return loss

    def distance(self, outputs: Any, taught: Any, temperature: float) -> Tensor:
        """Cross-entropy of class scores, and divergence of box distributions where the teacher sees an object.

        The distributions are compared as in localisation distillation (Zheng et al. 2022). Every anchor counts with
        the teacher's confidence.
        """
        student, teacher = _raw(outputs), _raw(taught)
        target = teacher["scores"].sigmoid()  # (n, n_classes, n_anchors)
        confidence = target.amax(1)  # (n, n_anchors)
        total = confidence.sum().clamp_min(1.0)
        cross = functional.binary_cross_entropy_with_logits(student["scores"], target, reduction="sum")
        # The teacher's own entropy is taken off, so that equal scores have the distance zero.
        entropy = functional.binary_cross_entropy_with_logits(teacher["scores"], target, reduction="sum")
        sides = [
            functional.log_softmax(_distributions(part["boxes"]) / temperature, 2) for part in (student, teacher)
        ]  # (n, 4, bins, n_anchors)
        divergence = (sides[1].exp() * (sides[1] - sides[0])).sum(2).mean(1) * temperature**2
        boxes = (divergence * confidence).sum() / total
        distance: Tensor = GAINS.cls * (cross - entropy) / total + GAINS.dfl * boxes
        return distance

    def example_labels(self, n_images: int, n_classes: int) -> Tensor:
        """One box in the middle of every image, of the classes in turn."""
        numbers = torch.arange(n_images)
        boxes = torch.tensor([0.5, 0.5, 0.4, 0.4]).repeat(n_images, 1)
        return torch.cat([torch.stack([numbers, numbers % n_classes], 1).float(), boxes], 1)

    def check_outputs(self, outputs: Any, n_images: int, n_classes: int | None) -> None:
        """Refuse what has no class scores of shape (n_images, n_classes, n_anchors)."""
        raw = outputs[1] if isinstance(outputs, tuple) and len(outputs) == 2 else outputs
        scores = raw.get("scores") if isinstance(raw, dict) else None
        if not isinstance(scores, Tensor) or scores.ndim != 3 or len(scores) != n_images:
            found = type(outputs).__name__
            raise ModelError(f"the model returns a {found}; detection needs what ultralytics' detection heads return")
        if n_classes is not None and scores.shape[1] != n_classes:
            raise ModelError(f"the model tells {scores.shape[1]} classes apart, the data have {n_classes}")

    def scores(self, model: nn.Module, data: Samples, *, outcomes: bool = False) -> Scores:
        """Mean average precision, as ultralytics computes it, over the classes that occur: at IoUs 0.5 to 0.95, at 0.5.

        Raises
        ------
        DataError
            When no image has a box.
        """
        found, real = [], []
        for detections, truths in detect(model, data):
            found.append(detections)
            real.append(truths)
        if not sum(len(truths) for truths in real):
            raise DataError("mean average precision needs labelled boxes, and there are none")
        matches = match(found, real)
        precision = matches.precision()
        parts = tuple(round(float(part), 5) for part in pseudo_values(matches, len(real))) if outcomes else ()
        return Scores(
            accuracy=float(precision.mean()),
            map50=float(precision[:, 0].mean()),
            outcomes=Outcomes(n_images=len(real), parts=parts) if outcomes else None,
        )


def detect(model: nn.Module, data: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Detections and true boxes of each image, in stored order; the network's mode is restored.

    Detections have the shape (k, 6): left, top, right, bottom, confidence, class. True boxes have the shape (m, 5):
    class, left, top, right, bottom. Both are in pixels of the letterboxed image.
    """
    training = model.training
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad():
            for images, labels in data.batches(BATCH_SIZE, shuffle_seed=None):
                predictions = model(images.to(device).contiguous(memory_format=torch.channels_last))[0].float().cpu()
                size = torch.tensor([images.shape[3], images.shape[2]] * 2)
                for number, prediction in enumerate(predictions):
                    boxes = labels[labels[:, 0] == number]
                    yield suppressed(prediction), torch.cat([boxes[:, 1:2], _sides(boxes[:, 2:]) * size], 1)
    finally:
        model.train(training)


def suppressed(prediction: Tensor) -> Tensor:
    """Detections of one image after non-maximum suppression per class, shape (k, 6), by falling confidence.

    Parameters
    ----------
    prediction : Tensor, shape (4 + n_classes, n_anchors)
        Centre and extent in pixels, and the confidence of every class; each class counts as a detection of its own.
    """
    from torchvision.ops import batched_nms

    labels, anchors = torch.where(prediction[4:] > LEAST_CONFIDENCE)
    confidence = prediction[4 + labels, anchors]
    order = confidence.argsort(descending=True, stable=True)[:MOST_CANDIDATES]
    labels, anchors, confidence = labels[order], anchors[order], confidence[order]
    sides = _sides(prediction[:4, anchors].T)
    kept = batched_nms(sides, confidence, labels, NMS_IOU)[:MOST_DETECTIONS]
    return torch.cat([sides[kept], confidence[kept, None], labels[kept, None].float()], 1)


def detection_head(model: nn.Module) -> nn.Module:
    """Detection head of an ultralytics network.

    Raises
    ------
    ModelError
        When it has none, or one that needs no suppression and is trained otherwise.
    """
    layers = getattr(model, "model", None)
    head = layers[-1] if isinstance(layers, nn.Sequential) else None
    if not isinstance(head, nn.Module) or not isinstance(getattr(head, "stride", None), Tensor):
        raise ModelError(
            f"task: detection needs an ultralytics detection network, such as ultralytics:yolov8n.yaml; "
            f"{type(model).__name__} has no such head"
        )
    if getattr(head, "end2end", False):
        raise ModelError("end-to-end detection heads (YOLOv10, YOLO26) are not supported; take YOLOv8")
    return head


def _raw(outputs: Any) -> dict[str, Tensor]:
    """Logits of the head: a network in evaluation mode returns its predictions first."""
    found: dict[str, Tensor] = outputs[1] if isinstance(outputs, tuple) else outputs
    return found


def _distributions(boxes: Tensor) -> Tensor:
    """Logits of the distance to each side, shape (n, 4, bins, n_anchors)."""
    return boxes.reshape(boxes.shape[0], 4, boxes.shape[1] // 4, boxes.shape[2])


def _sides(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom of boxes given by centre and extent, shape (k, 4)."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
