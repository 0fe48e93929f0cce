"""Regularizer: what may change the gradients after every backward pass of a training. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Regularizer = Callable[["nn.Module"], None]


class ResumableRegularizer(ABC):
    """A regularizer whose training can go on where it was ended: it says what it changes from step to step.

    State is made of tensors, numbers, texts, lists, tuples and dictionaries, as `torch.load` reads them without code.
    """

    @abstractmethod
    def __call__(self, model: nn.Module) -> None:
        """Called with the model after every backward pass; it may change the gradients."""

    def state(self) -> dict[str, Any]:
        """What `resume` needs; nothing where steps do not depend on earlier ones."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:  # noqa: B027 - most have no state
        """Go on from what `state` gave."""
