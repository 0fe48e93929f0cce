"""All that is trained works on another device too; where there is none, on one that only says that it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hdapbench_methods.joint_mpq.control import Controller
from hdapbench_methods.joint_mpq.prices import PriceControl
from torch.nn import functional

from hdapbench.cost.hardware import reference_cost, soft_cost
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.training.discretize import discretize
from tests.quant.elsewhere import DEVICE, Elsewhere, ThatDevice
from tests.quant.quant_networks import SHAPE, fixed, images, searchable


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    if torch.cuda.is_available():
        yield
    else:
        with ThatDevice():
            yield


def step(network, optimizer, n: int = 4) -> None:
    """One training step there."""
    optimizer.zero_grad()
    functional.cross_entropy(network(images(n).to(DEVICE)), torch.arange(n).to(DEVICE) % 5).backward()
    optimizer.step()


def test_tensors_of_two_devices_do_not_meet_unseen():
    if torch.cuda.is_available():
        pytest.skip("a real device sees to it itself")
    there = torch.ones(3).to(DEVICE)

    assert there.device == DEVICE
    assert isinstance(there * 2.0, Elsewhere)
    with pytest.raises(RuntimeError, match="two devices meet"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="two devices meet"):
        there.new_zeros(3) + torch.zeros(3, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["residual", "mixed"])
def test_fine_tuning_goes_there_and_back(kind):
    quantised, folded = fixed(kind)
    with torch.no_grad():
        expected = quantised(images())
        found = quantised.to(DEVICE)(images().to(DEVICE)).cpu()
    assert torch.allclose(found, expected, atol=1e-4)

    step(quantised.train(), torch.optim.AdamW(quantised.parameters(), lr=1e-3))
    before = lower(quantised, folded.group_set, SHAPE)
    quantised.to("cpu").train()(images())  # steps found there are not used here

    assert torch.equal(run_integer(lower(quantised, folded.group_set, SHAPE), images()), run_integer(before, images()))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PriceControl, {}),
        (Controller, {}),
        (PriceControl, {"granularity": "layer", "weight_bits": (2, 4, 8)}),
        (Controller, {"activation_bits": (4, 8), "sampling": "gumbel-hard"}),
    ],
)
def test_a_search_goes_there_and_back(kind, options):
    network = searchable("residual", **options).to(DEVICE).train()
    layers, cost = network.layers, soft_cost("weights")
    reference = reference_cost("weights", layers, soft=True)

    def settle() -> None:
        found = discretize(network.selection, lambda n: float(cost(layers, network.counts_at(n))), 0.5 * reference)
        network.selection.settle(found)

    more = {"learning_rate": 0.01} if kind is Controller else {}
    control = kind(
        network, lambda c: cost(layers, c) / reference, 0.5, settle, n_steps=12, last_temperature=0.01, **more
    )
    names = ("weights", "biases", "clips")
    optimizer = torch.optim.AdamW([p for name in names for p in getattr(network, name)], lr=1e-3)
    for _ in range(13):
        step(network, optimizer)
        control(network)

    assert float(network.counts().kept.detach().sum()) > 0
    network.to("cpu").eval()(images())
    chosen = network.choices()
    assert float(cost(layers, network.counts()).detach()) <= 0.5 * reference
    assert set(chosen) == {selector.name for selector in layers.selectors}
