from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from hdapbench.cost.bits import Selector, size_bits
from hdapbench.cost.hardware import HARDWARE_COSTS, reference_cost
from hdapbench.errors import ModelError
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.calibrate import calibrate_clips
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions, channel_of_row
from hdapbench.quant.training.selection import SelectionLogits
from tests.quant.quant_networks import KINDS, SHAPE, fixed, images, network, searchable


def position(model: SearchNetwork, name: str, channel: int) -> int:
    number = [selector.name for selector in model.selection.selectors].index(name)
    return int((model.selection.owner == number).nonzero()[channel])


def set_bits(model: SearchNetwork, name: str, channel: int, column: int) -> None:
    """Make one channel of a selector prefer one column of the logits."""
    row = position(model, name, channel)
    with torch.no_grad():
        model.selection.logits[row] = 0.0
        model.selection.logits[row, column] = 50.0


def test_logits_begin_at_their_bit_width():
    model = searchable("plain")

    assert model.selection.logits[0].tolist() == [0.0, 0.25, 0.5, 1.0]
    model.train()
    assert model.selection()[0].tolist() == pytest.approx([0.1504, 0.1931, 0.2479, 0.4087], abs=1e-4)
    assert {bits for chosen in model.choices().values() for bits in chosen} == {8}


@pytest.mark.parametrize("kind", KINDS)
def test_at_8_bits_the_network_is_close_to_the_float_one(kind):
    model = searchable(kind).eval()
    with torch.no_grad():
        expected = model.float_model()(images())
        found = model(images())

    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
def test_layers_that_share_channels_choose_as_one(kind):
    model = searchable(kind)
    rows = channel_of_row(FoldedModel.of(network(kind), SHAPE))
    starts = torch.tensor([0, *[len(weight) for weight in model.weights]]).cumsum(0)
    of_layer = {name: rows[starts[k] : starts[k + 1]].tolist() for k, name in enumerate(model.graph.layers)}

    tied = {
        "residual": ("body.0.0", "body.1.outer.0"),
        "depthwise": ("body.0.0", "body.1.0"),
        "concat": (),
    }[kind]
    if tied:
        assert of_layer[tied[0]] == of_layer[tied[1]]
    free = [name for name in model.graph.layers if name not in tied[1:]]
    together = [row for name in free for row in of_layer[name]]
    assert len(set(together)) == len(together)  # nothing else is tied


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_of_0_bits_is_like_one_that_was_cut_out(kind):
    model = searchable(kind).eval()
    selector = next(selector for selector in model.selection.selectors if selector.prunable and selector.n_channels > 2)
    set_bits(model, selector.name, 1, 0)
    x = images()

    with torch.no_grad():
        before = model(x)
        rows = model.channel_of_row == position(model, selector.name, 1)
        start = 0
        for weight, bias in zip(model.weights, model.biases, strict=True):
            mine = rows[start : start + len(weight)]
            weight[mine] = 100.0 * torch.randn_like(weight[mine])
            bias[mine] = 100.0
            start += len(weight)
        after = model(x)

    assert torch.equal(before, after)


@pytest.mark.parametrize("kind", ["plain", "residual", "concat"])
def test_weights_of_removed_inputs_do_not_widen_the_steps_of_others(kind):
    model = searchable(kind).eval()
    group = next(iter(model.selection.selectors)).name
    rows = torch.arange(len(model.selection.owner))[model.selection.owner == 0]
    set_bits(model, group, 1, 0)
    before = model.find_steps()
    with torch.no_grad():
        for weight, inputs in zip(model.weights, model._inputs_of_layers, strict=True):
            if inputs is not None:
                weight[:, inputs == rows[1]] *= 1e3

    after = model.find_steps()

    assert any(inputs is not None and bool((inputs == rows[1]).any()) for inputs in model._inputs_of_layers)
    assert torch.equal(after, before)


def test_settled_choices_leave_no_other_share():
    selection = SelectionLogits([Selector("a", 3, True), Selector("b", 2, False)], (0, 2, 4, 8)).train()

    selection.settle({"a": (0, 4, 8), "b": (2, 2)})

    assert selection().tolist() == [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
    ]


def test_the_classifier_cannot_lose_channels():
    model = searchable("plain")
    with torch.no_grad():
        model.selection.logits[:, 0] = 100.0

    choices = model.choices()

    assert 0 not in choices["classifier"]
    for selector in model.selection.selectors:
        if selector.prunable:
            assert sum(bits > 0 for bits in choices[selector.name]) == 1  # one channel stays in every group


def test_the_channels_that_stay_are_those_least_willing_to_go():
    logits = SelectionLogits([Selector("a", 4, True), Selector("b", 3, True)], (0, 2, 8), least_channels=2)
    with torch.no_grad():
        logits.logits.zero_()
        logits.logits[:, 0] = torch.tensor([9.0, 5.0, 7.0, 6.0, 8.0, 9.0, 1.0])

    choices = logits.choices()

    assert [bits > 0 for bits in choices["a"]] == [False, True, False, True]
    assert [bits > 0 for bits in choices["b"]] == [True, False, True]


def test_one_choice_per_layer_where_asked_for():
    model = searchable("residual", weight_bits=(2, 4, 8), granularity="layer")

    assert model.selection.logits.shape == (len(model.selection.selectors), 3)
    assert all(len(set(bits)) == 1 for bits in model.choices().values())


@pytest.mark.parametrize(
    ("bits", "granularity", "message"),
    [((0,), "channel", "not all be 0"), ((8, 4), "channel", "ascend"), ((0, 8), "layer", "would cut the network")],
)
def test_senseless_choices_are_refused(bits, granularity, message):
    with pytest.raises(ModelError, match=message):
        SelectionLogits([Selector("a", 4, True)], bits, granularity=granularity)


@pytest.mark.parametrize("sampling", ["hard", "gumbel-hard"])
def test_hard_samples_are_one_hot_with_the_gradient_of_soft_ones(sampling):
    torch.manual_seed(0)
    model = searchable("plain", sampling=sampling).train()

    shares = model.selection()
    (shares * torch.randn_like(shares)).sum().backward()

    assert torch.allclose(shares.max(1).values, torch.ones(len(shares)))
    assert bool((model.selection.logits.grad.abs().sum(1) > 0.0).all())


def test_gumbel_samples_follow_the_softmax_probabilities():
    torch.manual_seed(0)
    selection = SelectionLogits([Selector("a", 40_000, True)], (0, 2, 4, 8), sampling="gumbel-hard").train()

    shares = selection().mean(0)

    assert shares.tolist() == pytest.approx([0.1504, 0.1931, 0.2479, 0.4087], abs=0.015)


def test_in_eval_mode_the_likeliest_choice_is_taken_whatever_the_sampling():
    for sampling in ("softmax", "hard", "gumbel", "gumbel-hard"):
        shares = searchable("plain", sampling=sampling).eval().selection()
        assert torch.equal(shares[:, -1], torch.ones(len(shares)))


@pytest.mark.parametrize("cost", sorted(set(HARDWARE_COSTS) - {"ram"}))  # a search follows its smooth form
@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
def test_a_cost_of_one_hot_choices_is_exact_and_reaches_the_logits(kind, cost):
    model = searchable(kind).train()
    model(images(4))

    share = HARDWARE_COSTS[cost](model.layers, model.counts()) / reference_cost(cost, model.layers)
    share.backward()

    assert float(model.selection.logits.grad.abs().sum()) > 0.0
    model.eval()
    model(images(4))
    bits, columns = model.choices(), model.selection.bits
    channels = torch.tensor([[bits[s.name].count(column) for column in columns] for s in model.layers.selectors])
    exact = HARDWARE_COSTS[cost](model.layers, model.counts_at(channels))
    assert float(HARDWARE_COSTS[cost](model.layers, model.counts())) == pytest.approx(float(exact))


@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
def test_task_gradients_of_logits_equal_finite_differences(kind):
    # Activations are kept off the way: rounding them has no useful derivative. Steps and bias steps are fixed.
    model = searchable(kind).train().double()
    model.quantize = lambda operation, value, _: value.relu() if operation.relu else value
    x, weight = images(4).double(), torch.randn(4, 5, dtype=torch.float64)
    with torch.no_grad():
        model.selection.logits += torch.randn_like(model.selection.logits)  # no ties among the channels that must stay
    model(x)
    steps = model.current_steps().double()
    model.current_steps = lambda: steps
    model.bias_steps = lambda *_: torch.full((len(steps),), 1e-3, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (model(x) * weight).sum()

    loss().backward()
    logits = model.selection.logits
    found = logits.grad.clone()
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        row = int(torch.randint(len(logits), (), generator=generator))
        column = int(torch.randint(1, logits.shape[1], (), generator=generator))
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                logits[row, column] += shift
                values.append(float(loss()))
                logits[row, column] -= shift
        expected = (values[0] - values[1]) / 2e-5
        assert float(found[row, column]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_activation_bits_are_chosen_too_but_the_input_keeps_8():
    model = searchable("residual", activation_bits=(2, 4, 8)).train()
    functional.cross_entropy(model(images()), torch.arange(16) % 5).backward()

    gradient = model.activation_selection.logits.grad
    first = model.graph.operations[0].quantizer
    assert float(gradient[first].abs().sum()) == 0.0
    assert bool((gradient.abs().sum(1) > 0).sum() == len(gradient) - 1)
    with torch.no_grad():
        model.activation_selection.logits[:, 0] = 9.0
    assert model.activation_choices()[first] == 8
    assert set(model.activation_choices()) == {2, 8}


def test_training_lowers_the_loss_of_a_fixed_batch():
    torch.manual_seed(0)
    model = searchable("residual").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, labels = images(32), torch.arange(32) % 5
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat", "mixed"])
@pytest.mark.parametrize("what", ["search", "fixed"])
def test_gradients_under_bf16_autocast_are_near_those_of_fp32(kind, what):
    model = (searchable(kind) if what == "search" else fixed(kind)[0]).train()
    x, labels = images(32), torch.arange(32) % 5

    def gradients(enabled: bool) -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    exact, rough = gradients(False), gradients(True)

    assert float(functional.cosine_similarity(exact, rough, dim=0)) > 0.95


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0"])
def test_torchvision_models_train_a_search_step(name):
    torch.manual_seed(0)
    shape = (3, 64, 64)
    x = torch.randn(2, *shape)
    trained = getattr(torchvision.models, name)(weights=None, num_classes=4).train()
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        trained(x)  # statistics of real activations, or nothing gets through the depth of an untrained network
    folded = FoldedModel.of(trained, shape)
    model = SearchNetwork(folded, calibrate_clips(folded.model, folded.graph, [x]), SearchOptions(rule="minmax"))
    before = [weight.detach().clone() for weight in model.weights]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    loss = functional.cross_entropy(model.train()(x), torch.tensor([0, 1]))
    (loss + size_bits(model.layers, model.counts()) / reference_cost("weights", model.layers)).backward()
    optimizer.step()

    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(model.selection.logits.grad).all())
    assert sum(not torch.equal(a, b) for a, b in zip(before, model.weights, strict=True)) > len(before) // 2
