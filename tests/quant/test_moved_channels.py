"""Chunks, shuffles and other orders of channels are one operation everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import load_packed, save_packed
from hdapbench.quant.graph.capture import trace_graph
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions
from tests.quant.quant_networks import calibrate_clips, fixed
from tests.quant.test_packed import read_and_run


def shuffled(x):
    n, channels, height, width = x.size()
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(n, -1, height, width)


def swapped(x):
    parts = x.split([3, 5], 1)
    return torch.cat([parts[1], parts[0]], 1)


class Moved(nn.Module):
    """A block of ShuffleNet around a way to move channels."""

    def __init__(self, move):
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.move, self.tail, self.classifier = move, nn.Conv2d(8, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        first, second = functional.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat([functional.relu(self.left(first)), second], 1)
        x = functional.relu(self.tail(self.move(x)))
        return self.classifier(x.mean((2, 3)))


MOVES = [
    shuffled,
    nn.ChannelShuffle(4),
    lambda x: x.unflatten(1, (4, 2)).flip(1).flatten(1, 2),
    swapped,
    lambda x: x.roll(3, 1),
]


@pytest.mark.parametrize("move", MOVES)
def test_moved_channels_are_the_same_in_all_forms(move, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 9, 9)
    quantised, folded = fixed(Moved(move).eval(), shape=(3, 9, 9), x=x)
    model = lower(quantised, folded.group_set, (3, 9, 9))
    save_packed(model, tmp_path / "model.hdpq")

    with torch.no_grad():
        expected = quantised(x)
    whole = run_integer(model, x)

    assert any(operation.op == "take" for operation in model.operations)
    assert float((whole * model.operations[-1].scale - expected).abs().max()) < float(expected.abs().max()) / 50
    assert torch.equal(run_integer(load_packed(tmp_path / "model.hdpq"), x), whole)
    assert torch.equal(read_and_run(model, x), whole)


def test_moved_channels_are_exported_and_searched(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from hdapbench.quant.deploy.onnx_export import export_onnx

    torch.manual_seed(0)
    x = torch.randn(16, 3, 9, 9)
    quantised, folded = fixed(Moved(shuffled).eval(), shape=(3, 9, 9), x=x)
    told = export_onnx(lower(quantised, folded.group_set, (3, 9, 9)), tmp_path / "model.onnx")
    network = SearchNetwork(folded, calibrate_clips(folded.model, folded.graph, [x]), SearchOptions())

    network(x).sum().backward()

    assert told.difference < told.largest / 50
    assert float(network.selection.logits.grad.abs().sum()) > 0


def test_a_move_that_changes_nothing_is_left_out():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unflatten(1, (2, 2)), nn.Flatten(1, 2), nn.Conv2d(4, 2, 1))

    assert [operation.op for operation in trace_graph(model, (3, 4, 4))] == ["input", "layer", "layer"]
