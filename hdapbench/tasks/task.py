"""Task: what a network is for. How its loss is made, how well it does, and how it learns from another network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from hdapbench.trial import Outcomes

if TYPE_CHECKING:
    from hdapbench.data import Samples

Objective = Callable[[Any, Tensor], Tensor]
"""Outputs of a network and labels -> scalar loss, the mean over images."""


@dataclass(frozen=True)
class Scores:
    """How well a network does.

    Attributes
    ----------
    accuracy
        The task's metric, in [0, 1]: top-1 accuracy, or mAP50-95.
    map50
        Of detection: mean average precision at an IoU of 0.5, in [0, 1].
    outcomes
        What each image contributed, where that was asked for.
    """

    accuracy: float
    map50: float | None = None
    outcomes: Outcomes | None = None


class Task(ABC):
    """What a network is trained for and judged by: classification or detection.

    Attributes
    ----------
    name
        As in the spec.
    metric
        Name of what `Scores.accuracy` holds.
    """

    name: ClassVar[str]
    metric: ClassVar[str]

    @abstractmethod
    def objective(self, model: nn.Module, *, label_smoothing: float = 0.0) -> Objective:
        """Loss of a network's outputs, whether they were made in training or in evaluation mode.

        Parameters
        ----------
        model
            The network, on the device that it runs on.
        label_smoothing
            Share of every label that is spread over all classes, in [0, 1); detection takes none.

        Raises
        ------
        ModelError
            When the task cannot be learned by this network.
        """

    @abstractmethod
    def distance(self, outputs: Any, taught: Any, temperature: float) -> Tensor:
        """Scalar by which a network's outputs differ from those of the network that it learns from.

        Parameters
        ----------
        outputs, taught
            Outputs of the two networks for the same images.
        temperature
            What logits are divided by before they are compared.
        """

    @abstractmethod
    def example_labels(self, n_images: int, n_classes: int) -> Tensor:
        """Labels of images that show anything, for trying a network out."""

    @abstractmethod
    def check_outputs(self, outputs: Any, n_images: int, n_classes: int | None) -> None:
        """Refuse what a network returns for a batch when the loss and the scores cannot use it.

        Parameters
        ----------
        outputs
            Of the network, in either mode.
        n_images
            In the batch.
        n_classes
            Of the data; None where they are not known.

        Raises
        ------
        ModelError
            With what is returned, and what is needed.
        """

    @abstractmethod
    def scores(self, model: nn.Module, data: Samples, *, outcomes: bool = False) -> Scores:
        """Scores of a network on a set, in evaluation mode; the network's mode is restored.

        Parameters
        ----------
        model, data
            The network, and the images and labels.
        outcomes
            Whether to tell what each image contributed, which takes longer for detection.

        Raises
        ------
        DataError
            When there is nothing to judge by.
        """
