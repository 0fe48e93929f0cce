"""Trial, Status, Result, Environment: the frozen values that a run produces. No torch."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from enum import StrEnum
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hdapbench.arrays import Booleans
from hdapbench.plan import Plan

DENSE = "dense"
"""Method name of the row that every other row is compared with: the base model, not compressed."""

SCORED_AGAIN = "scored_again"
"""Note of a result whose plan another trial, which it names, found on an earlier recording of the fleet."""
CLUSTERED_ANEW = "clustered_anew"
"""Note of a result for which the fleet was clustered anew, and why: a device without a spare was lost."""

NUMBERS = 1
"""Raised by every change of the program that gives trials other numbers: no board mixes those of before and after."""


class Status(StrEnum):
    """How a trial ended. Everything but `COMPLETE` carries a reason."""

    COMPLETE = "complete"
    SKIPPED = "skipped"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    TIMEOUT = "timeout"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trial(_Value):
    """One cell of the grid: a method with resolved parameters, a target, a fleet and a seed.

    Attributes
    ----------
    benchmark
        Name of the spec.
    context
        Hash of everything in the spec that bears on the numbers and is common to all its trials:
        model, weights, data, recipes, budget.
    method, parameters
        The method's name and its *resolved* parameters, defaults included.
    target
        Canonical target text such as ``0.5x``; None for the dense reference.
    fleet, fleet_hash
        Name of the fleet and hash of its resolved description.
    seed
        Seed of the method's search and of fine-tuning.
    code
        Hash of the code that the method comes from; None for methods that ship.
    sources
        What else the numbers depend on -> hash of its content: code of the model, of the data set and of the fleet's
        kind, images, the host of a local fleet. What is not there, or ships, is left out.
    size_of
        ``stored`` where the target limits what a device stores; None otherwise, and in trials of before, whose limits
        on size counted weights alone.
    """

    benchmark: str
    context: str
    method: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    target: str | None
    fleet: str
    fleet_hash: str
    seed: int
    # Left out where there is none: the ids of older trials stay what they were.
    code: str | None = Field(default=None, exclude_if=lambda value: value is None)
    sources: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    size_of: Literal["stored"] | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the content; the benchmark's and the fleet's names do not count."""
        content = self.model_dump(mode="json", exclude={"benchmark", "fleet"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def named(self, label: str) -> str:
        """The trial in a line without its id, with a label that tells its method's variants apart."""
        return f"{label} @ {self.target or 'dense'} on {self.fleet}, seed {self.seed}"

    def __str__(self) -> str:
        return f"{self.named(self.method)} [{self.id}]"


class Spent(_Value):
    """What a method used up before it proposed its plan.

    ``device_queries`` counts one plan measured on one device (all its repeats) as one.
    """

    device_queries: int = 0
    accuracy_evals: int = 0
    train_epochs: float = 0.0
    wall_seconds: float = 0.0


class BitMetrics(_Value):
    """Costs of a quantised model, and how far its deployed forms agree with the one that was trained.

    ``stored_bytes`` is what a device stores: weights, biases, multipliers, shifts; absent from results of before it
    was counted. ``weight_bytes`` are packed weights alone, ``packed_bytes`` the whole file with its header.
    Cycles are None where a processor has no mode for the model. ``argmax_differences`` counts test inputs on which the
    integer network names another class than the fake-quantised one, of ``n_compared``; ``integer_accuracy`` is the
    integer network's accuracy on them. ``flash_bytes`` and ``ram_bytes`` are what generated C code takes; None for what
    has no C code, and in results of before it was counted.
    """

    weight_bytes: float
    packed_bytes: int
    bit_operations: float
    mpic_cycles: float | None
    ne16_cycles: float | None
    channels_at_bits: dict[int, int]
    integer_accuracy: float
    argmax_differences: int
    n_compared: int
    stored_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)
    flash_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)
    ram_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)


class Metrics(_Value):
    """What the runner measured of a compressed model. Latencies in ms, accuracy and shares in [0, 1].

    ``flops`` are multiply-accumulates. ``size_bytes`` are parameter bytes. ``latency_low_ms`` and ``latency_high_ms``
    bound the 95 % interval of the average clustered latency ``latency_ms`` over the devices that were not measured.
    ``p95_ms`` is the 95 % quantile over devices, ``worst_cluster_ms`` the slowest cluster's representative.
    ``mask_difference`` is the largest absolute difference between masked and compact model on the probe batch.
    ``accuracy`` is the task's metric: top-1 accuracy, or mAP50-95 for detection, whose ``map50`` is beside it.
    ``accuracy_before`` is that metric before fine-tuning. ``bits`` belongs to quantised models, whose ``size_bytes``
    are those of the packed file. ``target_share`` is the share that is used of a target other than FLOPs, of several
    limits the greatest; ``target_shares`` has the share of each of several.
    ``product_flops`` are products between activations, which ``flops`` hold unless the spec leaves them out.
    """

    flops: int
    params: int
    size_bytes: int
    activation_bytes: int
    flops_target: int | None
    accuracy: float
    accuracy_before: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    p95_ms: float
    worst_cluster_ms: float
    latency_source: str
    mask_difference: float
    fine_tune_epochs: float
    map50: float | None = None
    bits: BitMetrics | None = None
    target_share: float | None = None
    target_shares: dict[str, float] = Field(default_factory=dict, exclude_if=lambda value: not value)
    product_flops: int = Field(default=0, exclude_if=lambda value: value == 0)

    @property
    def flops_share(self) -> float | None:
        """Share of the FLOPs target that the plan uses, or None for the dense reference."""
        return None if self.flops_target is None else self.flops / self.flops_target


class Outcomes(_Value):
    """What each test image contributed to a result's accuracy: what two models are compared on, image by image.

    Attributes
    ----------
    n_images
        Images of the test split.
    right
        Of classification: whether each image was named rightly, one bit per image, compressed, as base64.
    parts
        Of detection: jackknife pseudo-values of groups of images, whose mean is near mAP50-95 and whose spread is that
        of images (Miller 1974, "The jackknife: a review"); empty otherwise.
    """

    n_images: int = Field(ge=1)
    right: str | None = None
    parts: tuple[float, ...] = ()

    @classmethod
    def of_images(cls, right: Booleans) -> Self:
        """Outcomes of images that were named rightly or not, shape (n_images,)."""
        packed = zlib.compress(np.packbits(right).tobytes(), 9)
        return cls(n_images=len(right), right=base64.b64encode(packed).decode("ascii"))

    @property
    def by_image(self) -> Booleans | None:
        """Whether each image was named rightly, shape (n_images,); None for detection."""
        return (
            None
            if self.bits is None
            else np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.n_images).view(bool)
        )

    @property
    def bits(self) -> bytes | None:
        """One bit per image, as `numpy.packbits` packs them; None for detection."""
        if self.right is None:
            return None
        n_bytes = (self.n_images + 7) // 8
        return zlib.decompressobj().decompress(base64.b64decode(self.right), n_bytes).ljust(n_bytes, b"\0")


class DeviceLatency(_Value):
    """Raw repeats of one model on one device."""

    device: str
    cluster: int
    weight: float
    samples_ms: tuple[float, ...]


class Environment(_Value):
    """Where a result was obtained: enough to explain a difference between two machines."""

    hdapbench: str
    python: str
    platform: str
    torch: str
    torchvision: str
    torch_pruning: str
    numpy: str
    threads: int


class Result(_Value):
    """What came of one trial.

    ``metrics`` and ``devices`` are present exactly when the status is complete. A plan above its target is infeasible:
    it is neither fine-tuned nor measured, and only ``plan`` and ``spent`` are kept. ``outcomes`` are absent from
    results that were stored before outcomes were.
    """

    trial: Trial
    status: Status
    reason: str | None = None
    plan: Plan | None = None
    metrics: Metrics | None = None
    devices: tuple[DeviceLatency, ...] = ()
    outcomes: Outcomes | None = Field(default=None, exclude_if=lambda value: value is None)
    spent: Spent = Field(default_factory=Spent)
    seconds: float = 0.0
    environment: Environment
    artifact: str | None = None
    notes: dict[str, Any] = Field(default_factory=dict)
