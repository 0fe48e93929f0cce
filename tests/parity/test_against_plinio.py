from __future__ import annotations

import pytest
import torch

from hdapbench.cost.bits import BitLayers
from hdapbench.testing import tiny_workbench
from tests.parity.against_plinio import bytes_of, main


def dense(layers: BitLayers, bits: int) -> dict[str, list[int]]:
    n_out = layers.out_channels @ torch.tensor([float(s.n_channels) for s in layers.selectors]).double()
    return {name: [bits] * int(n) for name, n in zip(layers.names, n_out, strict=True)}


def test_bits_of_layers_are_counted_with_the_inputs_that_are_gone():
    layers = tiny_workbench("residual").quantizer.folded.layers
    chosen = dense(layers, 8)
    weights, stored = bytes_of(layers, chosen)
    first = next(name for name in layers.names if float(layers.out_channels[layers.names.index(name)].max()) == 1.0)
    selector = int(layers.out_channels[layers.names.index(first)].argmax())
    for row, name in enumerate(layers.names):
        if layers.out_channels[row, selector]:
            chosen[name][0] = 0

    fewer, less = bytes_of(layers, chosen)

    makers = int((layers.out_channels[:, selector] > 0).sum())
    assert stored - less == weights - fewer + 9 * makers
    assert weights - fewer > 0


def test_without_plinio_the_script_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["against_plinio"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert main() == 1
    assert "github.com/eml-eda/plinio" in capsys.readouterr().err


def test_plinio_searches_beside_us(tmp_path):
    pytest.importorskip("plinio", reason="PLiNIO is on no package index; it is not installed")
    from tests.parity.against_plinio import SPEC, open_bench, search

    bench, data = open_bench(SPEC, workspace=tmp_path, overrides=["base.epochs=1"])

    found = search(bench, data, 1e-4, epochs=1)

    assert 0 < found.weight_bytes < found.stored_bytes
