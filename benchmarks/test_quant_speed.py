"""What a step of a joint search and of quantised fine-tuning costs, against a float step of the same network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch
from hdapbench_methods.joint_mpq.control import Controller
from hdapbench_methods.joint_mpq.prices import PriceControl
from torch import nn
from torch.nn import functional

from hdapbench.cost.bits import ChannelBitCounts
from hdapbench.cost.hardware import hardware_cost, reference_cost
from hdapbench.errors import UnknownLayerError
from hdapbench.models import build_model
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions
from hdapbench.spec import ModelSpec

BATCH = 32
ROUNDS, STEPS = 7, {"resnet6": 12, "resnet8": 2, "dscnn": 2}
MOST_SEARCH, MOST_FINE_TUNE = 2.5, 2.0
NOISE = 1.5
"""Ratios of steps of some milliseconds wander by a third on shared machines: what fails is beyond that."""

SHAPES = {"resnet6": (1, 8, 8), "resnet8": (3, 32, 32), "dscnn": (1, 49, 10)}


def stepper(model: nn.Module, shape: tuple[int, int, int], after: Callable[[nn.Module], None] | None = None):
    """One training step as the training loop makes it: channels last, AdamW, weight decay on weights."""
    model = model.to(memory_format=torch.channels_last).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim > 1]}, {"params": [p for p in parameters if p.ndim <= 1]}], lr=1e-3
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, *shape, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), labels).backward()
        if after is not None:
            after(model)
        optimizer.step()

    return step


def ratios(name: str) -> dict[str, float]:
    """Medians of CPU time per step over those of a float step; all are run in turn, so that load hits all alike."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    model = build_model(ModelSpec(name=name, input_shape=shape), n_classes=10, base_dir=Path())
    folded = FoldedModel.of(model, shape)
    clips = calibrate_clips(folded.model, folded.graph, [torch.rand(64, *shape)])
    steps = {"float": stepper(model, shape)}
    for cost in ("stored", "mpic", "ne16"):
        network = SearchNetwork(folded, clips, SearchOptions())
        try:
            reference = reference_cost(cost, network.layers)
        except UnknownLayerError:
            continue

        def share(counts: ChannelBitCounts, cost=cost, network=network, reference=reference) -> torch.Tensor:
            return hardware_cost(cost)(network.layers, counts) / reference

        control = Controller(
            network, share, 0.3, lambda: None, n_steps=10_000, learning_rate=0.01, last_temperature=0.01
        )
        steps[f"search by descent, {cost}"] = stepper(network, shape, control)
        network = SearchNetwork(folded, clips, SearchOptions())
        prices = PriceControl(network, share, 0.3, lambda: None, n_steps=100, last_temperature=0.01)
        prices._step = 10  # past the steps that only watch
        steps[f"search, {cost}"] = stepper(network, shape, prices)
    widths = {layer: folded.graph.by_name[layer].shape[0] for layer in folded.graph.layers}
    bits = {layer: tuple((2, 4, 8)[k % 3] for k in range(width)) for layer, width in widths.items()}
    fixed = FixedNetwork(
        folded.model, folded.graph, clips[:, 0], weight_bits=bits, activation_bits=[8] * len(folded.graph.quantizers)
    )
    steps["fine-tune"] = stepper(fixed, shape)
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(ROUNDS):
        for kind, step in steps.items():
            step()
            started = time.thread_time()
            for _ in range(STEPS[name]):
                step()
            seconds[kind].append((time.thread_time() - started) / STEPS[name])
    medians = {kind: median(values) for kind, values in seconds.items()}
    print(name, {kind: f"{1e3 * value:.2f} ms, {value / medians['float']:.2f}x" for kind, value in medians.items()})
    return {kind: value / medians["float"] for kind, value in medians.items()}


@pytest.mark.parametrize("name", ["resnet6", "resnet8", "dscnn"])
def test_a_search_step_costs_little_more_than_a_float_step(name):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = ratios(name)
    finally:
        torch.set_num_threads(threads)

    assert all(value <= NOISE * MOST_SEARCH for kind, value in found.items() if kind.startswith("search"))
    assert found["fine-tune"] <= NOISE * MOST_FINE_TUNE
