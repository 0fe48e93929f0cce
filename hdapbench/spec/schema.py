"""The Pydantic models of a spec. Strict scalars, unknown keys refused, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hdapbench.spec.base import Name, Share, Strict, sequence_to_tuple
from hdapbench.spec.fleets import FleetSpec
from hdapbench.spec.units import parse_flops


def _shorthand(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _check_flops(value: object) -> object:
    """Text of a FLOPs target; a bare whole number is accepted too."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        parse_flops(value)
    return value


Channels = Annotated[tuple[float, ...], BeforeValidator(sequence_to_tuple), Field(min_length=1, max_length=4)]


class ModelSpec(Strict):
    """The network to compress."""

    name: str = Field(
        min_length=1,
        description="Zoo name (resnet20, resnet56, vgg16, mobilenetv1, resnet8, dscnn, resnet18-64px), "
        "torchvision:NAME, ultralytics:NAME.yaml, or module:callable (code that you name is imported and run).",
    )
    input_shape: Annotated[
        tuple[
            Annotated[int, Field(ge=1)],
            Annotated[int, Field(ge=1)],
            Annotated[int, Field(ge=1)],
        ],
        BeforeValidator(sequence_to_tuple),
    ] = Field(description="Channels, height and width of one input.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the model's builder.")
    weights: str | None = Field(
        default=None,
        description="Path of a state_dict, or torchvision:NAME of a weights enum; null trains by the base recipe.",
    )


class NormalizeSpec(Strict):
    """Mean and standard deviation per channel, of inputs scaled to [0, 1]."""

    mean: Channels = Field(description="Mean per channel.")
    std: Channels = Field(description="Standard deviation per channel.")


class DataSpec(Strict):
    """The data set and how it is split into disjoint train, search and test parts."""

    name: Literal["digits", "imagefolder", "cifar10"] = Field(description="digits, imagefolder or cifar10.")
    path: str | None = Field(
        default=None, description="Folder or tar archive; ${NAME}, ${NAME:-default} and ~ are expanded."
    )
    search_share: Share = Field(
        default=0.1, description="Share of the training images held out for methods to search on."
    )
    test_share: Share = Field(default=0.2, description="Share held out for testing, for sets without a test split.")
    normalize: NormalizeSpec | None = Field(default=None, description="Input normalisation; the set's own by default.")
    augment: Literal["none", "flip-crop", "shift"] = Field(default="none", description="Training augmentation.")

    @model_validator(mode="after")
    def _shares_leave_training_images(self) -> DataSpec:
        if self.search_share + self.test_share >= 1.0:
            raise ValueError("search_share + test_share must stay below 1, or nothing is left to train on")
        return self


class Recipe(Strict):
    """How a model is trained."""

    epochs: float = Field(ge=0.0, description="Passes over the training images; fractions are allowed.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd (Nesterov, momentum 0.9) or adamw.")
    learning_rate: float = Field(default=0.05, gt=0.0, description="Peak learning rate.")
    weight_decay: float = Field(default=5e-4, ge=0.0, description="Weight decay.")
    batch_size: int = Field(default=64, ge=1, description="Images per step.")
    schedule: Literal["onecycle", "cosine", "constant"] = Field(default="cosine", description="Learning rate schedule.")
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0, description="Label smoothing.")
    max_train_images: int | None = Field(
        default=None, ge=1, description="Images per epoch, drawn anew each epoch; null uses all."
    )


class BaseRecipe(Recipe):
    """How the dense model is trained when no weights are given."""

    seed: int = Field(default=0, ge=0, description="Seed of initialisation and batches.")


class TargetSpec(Strict):
    """What a compressed model must not exceed."""

    flops: Annotated[str, BeforeValidator(_check_flops)] = Field(
        description="Multiply-accumulates: relative to the dense model (0.5x) or absolute (1.0G)."
    )


class MethodSpec(Strict):
    """A method and its parameters. A list as a parameter's value makes one trial per entry."""

    name: str = Field(min_length=1, description="A name that `hdapbench methods` lists.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The method's parameters.")

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the parameters that are lists, in the order written."""
        names = list(self.parameters)
        choices = [value if isinstance(value, list) else [value] for value in self.parameters.values()]
        return [dict(zip(names, combination, strict=True)) for combination in product(*choices)]


class BudgetSpec(Strict):
    """What one method may use up in one trial; null is unlimited."""

    device_queries: int | None = Field(default=None, ge=0, description="Plans measured on single devices.")
    accuracy_evals: int | None = Field(default=None, ge=0, description="Accuracy evaluations on the search split.")
    train_epochs: float | None = Field(default=None, ge=0.0, description="Training epochs before the plan is proposed.")
    wall_seconds: float | None = Field(default=None, gt=0.0, description="Seconds until a method is stopped.")


class Spec(Strict):
    """A benchmark: one model, one data set, and a grid of fleets, targets, methods and seeds."""

    schema_version: Literal[1] = Field(description="Version of this format: 1.")
    name: Name = Field(description="Name of the benchmark and of its leaderboard.")
    model: ModelSpec = Field(description="The network to compress.")
    task: Literal["classification"] = Field(default="classification", description="What the network does.")
    data: DataSpec = Field(description="The data set and its splits.")
    base: BaseRecipe = Field(
        default_factory=lambda: BaseRecipe(epochs=20.0, schedule="onecycle"),
        description="Recipe of the dense model, used when model.weights is null.",
    )
    fine_tune: Recipe = Field(description="Recipe of fine-tuning, the same for every method.")
    fleets: Annotated[tuple[FleetSpec, ...], BeforeValidator(sequence_to_tuple)] = Field(
        min_length=1, description="Device fleets."
    )
    targets: Annotated[tuple[TargetSpec, ...], BeforeValidator(sequence_to_tuple)] = Field(
        min_length=1, description="FLOPs targets."
    )
    methods: Annotated[
        tuple[Annotated[MethodSpec, BeforeValidator(_shorthand)], ...], BeforeValidator(sequence_to_tuple)
    ] = Field(min_length=1, description="Methods to compare; a bare name takes the defaults.")
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="Limits per method and trial.")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(sequence_to_tuple)] = Field(
        default=(0,), min_length=1, description="Seeds; each repeats every trial."
    )
    plugins: Annotated[tuple[str, ...], BeforeValidator(sequence_to_tuple)] = Field(
        default=(), description="Python files with further methods; only these are executed."
    )
    threads: int = Field(default=1, ge=1, description="Threads for training and evaluation.")

    @model_validator(mode="after")
    def _no_repeats(self) -> Spec:
        repeats: Mapping[str, list[Any]] = {
            "fleets": [fleet.name for fleet in self.fleets],
            "targets": [str(parse_flops(target.flops)) for target in self.targets],
            "seeds": list(self.seeds),
        }
        wrong = [
            f"{key} names {sorted({v for v in values if values.count(v) > 1})} twice"
            for key, values in repeats.items()
            if len(set(values)) < len(values)
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


__all__ = [
    "BaseRecipe",
    "BudgetSpec",
    "DataSpec",
    "MethodSpec",
    "ModelSpec",
    "NormalizeSpec",
    "Recipe",
    "Spec",
    "TargetSpec",
]
