"""Small networks for tests of quantisation, trained-looking: batch norms hold statistics of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions, channel_of_row
from hdapbench.testing.models import build
from tests.zoo import with_statistics

SHAPE = (3, 8, 8)
KINDS = ["plain", "residual", "depthwise", "concat", "mixed"]


class Mixed(nn.Module):
    """Max pooling, a gate, a pointwise function, a concat of grids with and without sign, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.tail = nn.Conv2d(10, 8, 3, stride=2, padding=1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.hidden = nn.Linear(8 * 4, 12)
        self.act = nn.SiLU(inplace=True)
        self.classifier = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu6(self.norm(self.stem(x))), 2)
        x = self.tail(torch.cat([functional.relu(self.left(x)), self.right(x)], 1))
        x = self.act(x)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = functional.dropout(torch.flatten(x * gate, 1), 0.2, training=self.training)
        return self.classifier(functional.relu(self.hidden(x)))


def network(kind: str, *, seed: int = 0) -> nn.Module:
    """Network with random weights and statistics, in eval mode."""
    torch.manual_seed(seed)
    return with_statistics(Mixed() if kind == "mixed" else build(kind, n_classes=5))


def images(n: int = 16, seed: int = 1) -> Tensor:
    """Random images."""
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def searchable(kind: str, **options: Any) -> SearchNetwork:
    """Calibrated network whose bit-widths are open."""
    folded = FoldedModel.of(network(kind), SHAPE)
    chosen = SearchOptions(**options)
    clips = calibrate_clips(folded.model, folded.graph, [images()], bits=chosen.activation_bits)
    return SearchNetwork(folded, clips, chosen)


def mixed_bits(folded: FoldedModel, seed: int, choices: tuple[int, ...] = (2, 4, 8)) -> dict[str, tuple[int, ...]]:
    """Random bits per channel, the same in layers that share channels."""
    generator = torch.Generator().manual_seed(seed)
    rows = channel_of_row(folded)
    bits = torch.tensor(choices)[torch.randint(len(choices), (int(rows.max()) + 1,), generator=generator)][rows]
    parts = torch.split(bits, [folded.graph.by_name[name].shape[0] for name in folded.graph.layers])
    return {name: tuple(part.tolist()) for name, part in zip(folded.graph.layers, parts, strict=True)}


def fixed(
    kind: str, *, seed: int = 0, activation_bits: int = 8, shape=SHAPE, x=None, choices=(2, 4, 8)
) -> tuple[FixedNetwork, FoldedModel]:
    """Fake-quantised network with random bit-widths, in eval mode."""
    folded = FoldedModel.of(network(kind, seed=seed) if isinstance(kind, str) else kind, shape)
    clips = calibrate_clips(folded.model, folded.graph, [images() if x is None else x], bits=[activation_bits])[:, 0]
    bits = [activation_bits] * len(folded.graph.quantizers)
    weight_bits = mixed_bits(folded, seed, choices)
    quantised = FixedNetwork(folded.model, folded.graph, clips, weight_bits=weight_bits, activation_bits=bits)
    return quantised.eval(), folded


def lowered(kind: str, *, seed: int = 0, activation_bits: int = 8) -> tuple[FixedNetwork, IntegerModel]:
    """Fake-quantised network as of `fixed`, and its integer model."""
    quantised, folded = fixed(kind, seed=seed, activation_bits=activation_bits)
    return quantised, lower(quantised, folded.group_set, SHAPE)


class Awkward(nn.Module):
    """Grouped and dilated convolutions, padding 'same', max pooling with ceil mode, average pooling with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same")
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, padding=1)
        self.dilated = nn.Conv2d(12, 6, (3, 2), dilation=2, padding=(2, 1))
        self.classifier = nn.Linear(6 * 9, 4)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.first(x)), 3, 2, 1, ceil_mode=True)
        x = functional.avg_pool2d(functional.relu(self.grouped(x)), 3, 1, 1)
        x = functional.relu(self.dilated(x))
        x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        return self.classifier(torch.flatten(x, 1))
