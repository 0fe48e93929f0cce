"""Tiny models for contract tests: every structure that makes channel groups interesting, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class _Net(nn.Module):
    """A body, a global average and a classifier."""

    def __init__(self, body: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.body(x).mean((2, 3)))
        return out


class _Residual(nn.Module):
    """A block whose output is added to its input, and which can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = _block(12, 10), _block(10, 12)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.outer(self.inner(x))
        return x + refined


class _Concat(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.tail = _block(3, 8), _block(8, 10), _block(8, 6), _block(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.tail(torch.cat([self.left(x), self.right(x)], 1))
        return out


def build(kind: str, *, n_classes: int) -> nn.Module:
    """Model of a kind for inputs of shape (n, 3, height, width).

    Raises
    ------
    KeyError
        When the kind is unknown.
    """
    bodies: dict[str, Callable[[], tuple[nn.Module, int]]] = {
        "plain": lambda: (nn.Sequential(_block(3, 12), _block(12, 2), _block(2, 1), _block(1, 16)), 16),
        "residual": lambda: (nn.Sequential(_block(3, 12), _Residual()), 12),
        "depthwise": lambda: (nn.Sequential(_block(3, 12), _block(12, 12, groups=12), _block(12, 16)), 16),
        "concat": lambda: (_Concat(), 12),
    }
    body, width = bodies[kind]()
    return _Net(body, width, n_classes)


def _block(n_in: int, n_out: int, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU())
