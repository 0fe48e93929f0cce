"""The Pydantic models of a spec. Strict scalars, unknown keys refused, frozen."""

from __future__ import annotations

import re
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticKnownError

from hdapbench.spec.base import Name, Problems, Strict, refuse, sequence_to_tuple
from hdapbench.spec.data import BOX_DATASETS, DataSpec, NormalizeSpec
from hdapbench.spec.fleet_kinds import AnyFleetSpec
from hdapbench.spec.methods import MethodSpec, Seeds, TargetSpec, repeated_trials, shorthand, unknown_parts
from hdapbench.spec.plugins import plugin_names

MOST_VALUES = 1 << 26
"""Of one input: an image of 4,700 by 4,700 pixels in colour."""


DEVICE = re.compile(r"^(cpu|cuda|cuda:(0|[1-9][0-9]{0,2})|auto)$")


def _device(value: object) -> object:
    if isinstance(value, str) and not DEVICE.match(value):
        raise PydanticKnownError("literal_error", {"expected": "'cpu', 'cuda', 'cuda:1' or 'auto'"})
    return value


Shape = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(sequence_to_tuple),
]


class ModelSpec(Strict):
    """The network to compress."""

    name: str = Field(
        min_length=1,
        description="Zoo name (resnet20, resnet56, vgg16, vgg7, mobilenetv1, resnet6, resnet8, dscnn, resnet18-64px), "
        "torchvision:NAME, timm:NAME, ultralytics:NAME.yaml, or module:callable (code that you name is imported and "
        "run).",
    )
    input_shape: Shape = Field(description="Channels, height and width of one input.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the model's builder.")
    weights: str | None = Field(
        default=None,
        description="Path of a state_dict (of torch or safetensors) or of an ultralytics .pt, or torchvision:NAME of a "
        "weights enum; null trains by the base recipe.",
    )
    output: str | None = Field(
        default=None,
        pattern=r"^[^.]+(\.[^.]+)*$",
        exclude_if=lambda value: value is None,
        description="Where class scores are among a network's outputs: keys and positions, as in logits or 0.scores; "
        "null looks for the one tensor of their shape.",
    )
    attention: Literal["heads", "width"] = Field(
        default="heads",
        exclude_if=lambda value: value == "heads",
        description="What attention loses: whole heads, or as many channels of every head (queries and keys alike).",
    )


class DistillationSpec(Strict):
    """Learning from a trained network's outputs beside the labels (Hinton et al. 2015)."""

    weight: float = Field(default=0.5, gt=0.0, le=1.0, description="Share of the loss that follows the teacher.")
    temperature: float = Field(default=4.0, gt=0.0, description="What logits are divided by before they are compared.")


class Recipe(Strict):
    """How a model is trained."""

    epochs: float = Field(ge=0.0, description="Passes over the training images; fractions are allowed.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd (Nesterov, momentum 0.9) or adamw.")
    learning_rate: float = Field(default=0.05, gt=0.0, description="Peak learning rate.")
    weight_decay: float = Field(default=5e-4, ge=0.0, description="Weight decay.")
    batch_size: int = Field(default=64, ge=2, description="Images per step; batch norm cannot standardise one.")
    schedule: Literal["onecycle", "cosine", "constant"] = Field(default="cosine", description="Learning rate schedule.")
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0, description="Label smoothing.")
    max_train_images: int | None = Field(
        default=None, ge=2, description="Images per epoch, drawn anew each epoch; null uses all."
    )
    # Keys that came later are left out where they hold the default: the ids of older trials stay what they were.
    distillation: DistillationSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Learn from the dense model as well, in base from its teacher; null learns from labels alone.",
    )
    ema: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        exclude_if=lambda value: value is None,
        description="Decay of an exponential moving average of the weights, which is the result; null takes the last.",
    )
    precision: Literal["fp32", "bf16", "amp"] = Field(
        default="fp32",
        exclude_if=lambda value: value == "fp32",
        description="Arithmetic of training: fp32, bf16 autocast, or amp (fp16 autocast with scaled losses, on CUDA).",
    )


class TeacherSpec(Strict):
    """A trained network that the base model learns from."""

    name: str = Field(min_length=1, description="As of model.")
    weights: str = Field(min_length=1, description="As of model, for the classes of the data.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the network's builder.")
    input_shape: Shape | None = Field(
        default=None, description="What images are resized to for it; null takes them as the base model does."
    )
    normalize: NormalizeSpec | None = Field(
        default=None,
        description="Mean and standard deviation that it knows images by, where they are others than data.normalize.",
    )

    def model(self, input_shape: tuple[int, int, int]) -> ModelSpec:
        """The network as a model; ``input_shape`` is the base model's."""
        return ModelSpec(
            name=self.name,
            weights=self.weights,
            arguments=self.arguments,
            input_shape=self.input_shape or input_shape,
        )


class BaseRecipe(Recipe):
    """How the dense model is trained when no weights are given, or from them."""

    model_config = ConfigDict(serialize_by_alias=True)

    start: Literal["weights"] | None = Field(
        default=None,
        alias="from",
        exclude_if=lambda value: value is None,
        description="weights: train from model.weights, without the layers whose shape follows the number of classes "
        "where that differs; null trains from random weights, and not at all where model.weights is given.",
    )
    teacher: TeacherSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Network that base.distillation learns from.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of initialisation and batches.")


class BudgetSpec(Strict):
    """What one method may use up in one trial; null is unlimited."""

    device_queries: int | None = Field(default=None, ge=0, description="Plans measured on single devices.")
    accuracy_evals: int | None = Field(default=None, ge=0, description="Accuracy evaluations on the search split.")
    train_epochs: float | None = Field(
        default=None, ge=0.0, description="Epochs of the fine-tuning recipe before the plan is proposed."
    )
    wall_seconds: float | None = Field(default=None, gt=0.0, description="Seconds until a method is stopped.")


class RankingSpec(Strict):
    """Which rows of a board are ranked, and by what: numbers of trials do not depend on it."""

    by: Literal["latency", "accuracy"] | None = Field(
        default=None,
        description="What ranks rows; null takes latency under targets in FLOPs, and accuracy under all others.",
    )
    accuracy_within: float | None = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description="Points that a row ranked by latency may lose; rows that lose more are not ranked. "
        "null ranks every row.",
    )
    of: Literal["best", "dense"] = Field(
        default="best",
        description="What it may lose them against: the most accurate compressed row of its table, or the dense model.",
    )
    reference: str = Field(
        default="uniform",
        min_length=1,
        description="Method, or label of a row, that equal-accuracy leads are told against.",
    )


class Spec(Strict):
    """A benchmark: one model, one data set, and a grid of fleets, targets, methods and seeds."""

    schema_version: Literal[1] = Field(description="Version of this format: 1.")
    name: Name = Field(description="Name of the benchmark and of its leaderboard.")
    model: ModelSpec = Field(description="The network to compress.")
    task: Literal["classification", "detection"] = Field(default="classification", description="What the network does.")
    data: DataSpec = Field(description="The data set and its splits.")
    base: BaseRecipe = Field(
        default_factory=lambda: BaseRecipe(epochs=20.0, schedule="onecycle"),
        description="Recipe of the dense model, used when model.weights is null or where base.from is weights.",
    )
    fine_tune: Recipe = Field(description="Recipe of fine-tuning, the same for every method.")
    fleets: Annotated[tuple[AnyFleetSpec, ...], BeforeValidator(sequence_to_tuple)] = Field(
        min_length=1, description="Device fleets."
    )
    targets: Annotated[tuple[TargetSpec, ...], BeforeValidator(sequence_to_tuple)] = Field(
        min_length=1,
        description="Targets, each a limit on FLOPs, size, cycles, latency, RAM or flash, or several at once.",
    )
    methods: Annotated[
        tuple[Annotated[MethodSpec, BeforeValidator(shorthand)], ...], BeforeValidator(sequence_to_tuple)
    ] = Field(min_length=1, description="Methods to compare; a bare name takes the defaults.")
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="Limits per method and trial.")
    seeds: Seeds = Field(default=(0,), min_length=1, description="Seeds; each repeats every trial.")
    ranking: RankingSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Which rows are ranked and by what; null is the same as {}: by latency within one point.",
    )
    plugins: Annotated[tuple[str, ...], BeforeValidator(sequence_to_tuple)] = Field(
        default=(), description="Python files with further methods; only these are executed."
    )
    count_products: bool = Field(
        default=True,
        exclude_if=lambda value: value is True,
        description="Whether FLOPs hold products between activations, as in attention; false: layers with weights.",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads for training and evaluation.")
    device: Annotated[str, BeforeValidator(_device)] = Field(
        default="cpu",
        exclude_if=lambda value: value == "cpu",
        json_schema_extra={"pattern": DEVICE.pattern},
        description="Where models are trained and evaluated: cpu, cuda, cuda:1 (a GPU's number) or auto.",
    )

    @model_validator(mode="after")
    def _parts_fit_the_task(self) -> Spec:
        detects = self.task == "detection"
        problems: Problems = self._unfit_images()
        if self.data.holds_boxes not in (None, detects):
            wanted = ", ".join(plugin_names(BOX_DATASETS)) if detects else "a set of labelled images"
            problems.append((("data", "name"), f"{self.data.name} is not for task: {self.task}; it needs {wanted}"))
        for name, recipe in (("base", self.base), ("fine_tune", self.fine_tune)):
            if detects and recipe.label_smoothing:
                problems.append(((name, "label_smoothing"), "is for classification; remove it"))
            if recipe.precision == "amp" and self.device == "cpu":
                problems.append(((name, "precision"), "amp needs device: cuda; write bf16 or fp32"))
        if self.base.start is not None and self.model.weights is None:
            problems.append((("base", "from"), "needs model.weights to begin with"))
        refuse(problems + self._unfit_teacher())
        return self

    def _unfit_teacher(self) -> Problems:
        """A teacher without distillation and the other way round, and one that cannot see what the base model sees."""
        teacher, place = self.base.teacher, ("base", "teacher")
        if teacher is None:
            if self.base.distillation is None:
                return []
            return [(("base", "distillation"), "needs base.teacher, the trained network to learn from")]
        problems: Problems = []
        if self.base.distillation is None:
            problems.append((place, "is not listened to; write base.distillation too, such as distillation: {}"))
        shape = teacher.input_shape or self.model.input_shape
        if shape[0] != self.model.input_shape[0]:
            problems.append(((*place, "input_shape"), f"has {shape[0]} channels, and model.input_shape has others"))
        if self.task == "detection" and shape != self.model.input_shape:
            problems.append(((*place, "input_shape"), "a detector learns from one of the same input shape; remove it"))
        if teacher.normalize is not None:
            n_channels = self.model.input_shape[0]
            if {len(teacher.normalize.mean), len(teacher.normalize.std)} != {n_channels}:
                problems.append(((*place, "normalize"), f"needs {n_channels} means and standard deviations"))
            if min(teacher.normalize.std) <= 0:
                problems.append(((*place, "normalize", "std"), "must be above 0"))
        return problems

    def _unfit_images(self) -> Problems:
        """Input shapes that no image can be brought to, and normalisation of other channels."""
        shape, normalize = self.model.input_shape, self.data.normalize
        problems: Problems = []
        if shape[0] not in (1, 3):
            problems.append((("model", "input_shape"), f"images have 1 or 3 channels (here: {list(shape)})"))
        if prod(shape) > MOST_VALUES:
            problems.append((("model", "input_shape"), f"{list(shape)} is more than {MOST_VALUES:,} values per image"))
        for key, values in (("mean", normalize.mean), ("std", normalize.std)) if normalize else ():
            if len(values) != shape[0]:
                text = f"has {len(values)} entries and needs {shape[0]}, one per channel of model.input_shape"
                problems.append((("data", "normalize", key), text))
            if key == "std" and min(values) <= 0:
                problems.append((("data", "normalize", key), f"must be above 0 (here: {list(values)})"))
        return problems

    @model_validator(mode="after")
    def _no_repeats(self, info: ValidationInfo) -> Spec:
        problems: Problems = []
        for key, values in (
            ("fleets", [fleet.name for fleet in self.fleets]),
            ("targets", [target.text for target in self.targets]),
            ("seeds", list(map(str, self.seeds))),
        ):
            for number, value in enumerate(values):
                if value in values[:number]:
                    place = (key, number, "name") if key == "fleets" else (key, number)
                    problems.append((place, f"{value} stands twice in {key}; remove or change one"))
        if info.mode != "json":  # what was stored before this was asked can still be read
            problems += repeated_trials(self.methods, self.targets, self.seeds)
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _methods_name_parts_of_the_spec(self) -> Spec:
        refuse(unknown_parts(self.methods, self.targets, self.seeds))
        return self
