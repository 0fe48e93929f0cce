"""FLOPs with and without products between activations: what `check`, limits, results and boards say."""

from __future__ import annotations

import json

import pytest

from hdapbench.cli.main import main
from tests.cli.test_many_networks import write_spec

WEIGHTS = 16 * 16 * (27 * 8 + 9 * 8 * 8) + 80
PRODUCTS = 2 * 8 * 8 * 256
SAID = {True: "and products between activations", False: "without products between activations"}


@pytest.mark.parametrize("counted", [True, False])
def test_products_between_activations_are_counted_or_left_out_everywhere_alike(counted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec = write_spec(tmp_path, "attention")
    spec.write_text(spec.read_text() + ("" if counted else "count_products: false\n"))
    dense = WEIGHTS + counted * PRODUCTS

    assert main(["check", str(spec)]) == 0
    told = capsys.readouterr().out
    assert f"model: {dense:,} FLOPs" in told
    assert (
        f"products between activations: {PRODUCTS:,} multiply-accumulates, {'held' if counted else 'left out'}" in told
    )

    assert main(["run", str(spec), "--quiet", "--json"]) == 0
    results = {result["trial"]["method"]: result["metrics"] for result in json.loads(capsys.readouterr().out)}
    assert (results["dense"]["flops"], results["dense"]["product_flops"]) == (dense, PRODUCTS)
    assert results["uniform"]["flops"] <= results["uniform"]["flops_target"] == int(0.9 * dense)
    assert main(["board", "attention"]) == 0
    assert (
        f"FLOPs are multiply-accumulates of convolution and linear layers, {SAID[counted]}." in capsys.readouterr().out
    )
