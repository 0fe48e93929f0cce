"""Attention, norms, shuffles, recurrences, bare and shared weights: counted as torch's own counter does, or by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.cost.bits import BitLayers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.cost.tiling import Tiling
from hdapbench.cost.trace import check_operations, record_layers
from hdapbench.errors import UnknownLayerError
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.groups import ChannelGroup, GroupMember, GroupSet
from hdapbench.surrogate.features import KernelFeatures
from tests.cost.live_counts import counted
from tests.cost.test_record_layers import Calls

SHAPE = (4, 8, 8)
NO_GROUPS = GroupSet(())
WAVES = Tiling(tiles=(32, 64), n_multiprocessors=6)


def tokens(x: Tensor) -> Tensor:
    """Maps as 64 tokens of 4 channels."""
    return x.flatten(2).transpose(1, 2)


def cost_of(model: nn.Module, group_set: GroupSet = NO_GROUPS) -> CostModel:
    return CostModel.from_records(record_layers(model.eval(), group_set, SHAPE), group_set.sizes)


def parameter(*shape: int) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.ones(*shape))])


class Doubled(nn.Conv2d):
    """Convolves twice."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x)


class LowRank(nn.Linear):
    """Adds a product of two matrices of its own."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.down, self.up = nn.Parameter(torch.ones(2, n_in)), nn.Parameter(torch.ones(n_out, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.T @ self.up.T


def tied() -> nn.Module:
    """Two linear layers of one weight, each with a bias of its own, and a third use of the weight."""
    one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    other.weight = one.weight
    return Calls(lambda f, x: functional.linear(f["b"](f["a"](x)), f["a"].weight), a=one, b=other)


def attention(x: Tensor, heads: int = 2) -> Tensor:
    q = tokens(x).unflatten(2, (heads, -1)).transpose(1, 2)
    return functional.scaled_dot_product_attention(q, q, q)


MODELS = {
    "multi-head attention": Calls(
        lambda f, x: f["a"](tokens(x), tokens(x), tokens(x), need_weights=False)[0],
        a=nn.MultiheadAttention(4, 2, batch_first=True),
    ),
    "attention with weights": Calls(
        lambda f, x: f["a"](*[tokens(x).transpose(0, 1)] * 3)[0],
        a=nn.MultiheadAttention(4, 2, kdim=4, add_bias_kv=True),
    ),
    "encoder layer": Calls(lambda f, x: f["a"](tokens(x)), a=nn.TransformerEncoderLayer(4, 2, 16, batch_first=True)),
    "fused attention": Calls(lambda _, x: attention(x)),
    "matmul": Calls(lambda _, x: x @ x.transpose(2, 3)),
    "einsum": Calls(lambda _, x: torch.einsum("nchw,ndhw->ncd", x, x)),
    "baddbmm": Calls(lambda _, x: torch.baddbmm(x[0], x[0], x[0])),
    "matmul with a fixed matrix": Calls(lambda _, x: x.flatten(1) @ torch.ones(256, 4)),
    "matmul from the left": Calls(lambda f, x: f["w"][0] @ tokens(x), w=parameter(16, 64)),
    "weight per head": Calls(lambda f, x: torch.einsum("nchw,cwv->nchv", x, f["w"][0]), w=parameter(4, 8, 5)),
    "functional layers": Calls(
        lambda f, x: functional.linear(functional.conv2d(x, f["w"][0], groups=2), f["v"][0]),
        w=parameter(6, 2, 3, 3),
        v=parameter(5, 6),
    ),
    "filters from the image": Calls(lambda _, x: functional.conv2d(x, x.mean((2, 3), keepdim=True).expand(4, 4, 1, 1))),
    "convolutions of one dimension": nn.Sequential(
        nn.Flatten(2), nn.Conv1d(4, 6, 3, groups=2), nn.ConvTranspose1d(6, 2, 3)
    ),
    "convolutions of three": Calls(lambda f, x: f["a"](x.unsqueeze(2)), a=nn.Conv3d(4, 6, (1, 3, 3))),
    "transposed convolution": nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2), nn.ConvTranspose2d(6, 4, 2, groups=2)
    ),
    "depthwise multiplier": nn.Conv2d(4, 12, 3, groups=4, bias=False),
    "norms": nn.Sequential(
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4),
        nn.LayerNorm(8, bias=False),
        nn.RMSNorm(8),
    ),
    "activation with weights": nn.Sequential(nn.PReLU(4), nn.PReLU()),
    "shuffles and resizes": nn.Sequential(
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.Upsample(scale_factor=2, mode="bicubic"),
        nn.Upsample(size=7, mode="area"),
    ),
    "bare parameters": Calls(
        lambda f, x: torch.roll(tokens(x), 1, 1) * f["s"][0] + f["p"][0], s=parameter(4), p=parameter(1, 64, 4)
    ),
    "embedding": Calls(lambda f, x: f["e"](x.argmax(1)) @ f["e"].weight.T, e=nn.Embedding(4, 6)),
    "gru": Calls(lambda f, x: f["a"](tokens(x))[0], a=nn.GRU(4, 3, num_layers=2, bidirectional=True, batch_first=True)),
    "recurrent cell": Calls(lambda f, x: f["a"](f["a"](x[:, :, 0, 0])), a=nn.RNNCell(4, 4)),
    "weights of two layers": tied(),
    "a layer that computes twice": Doubled(4, 4, 3),
    "low rank": LowRank(8, 3),
    "a weight that is used backwards": Calls(
        lambda f, x: functional.linear(f["a"](x), f["a"].weight.T), a=nn.Linear(8, 3)
    ),
    "a filter that is used backwards": Calls(
        lambda f, x: functional.conv_transpose2d(f["a"](x), f["a"].weight), a=nn.Conv2d(4, 6, 3)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_modern_layers_cost_what_torch_counts(name):
    model = MODELS[name].eval()
    real = counted(model, SHAPE)

    check_operations(model, SHAPE)
    dense = cost_of(model).dense

    assert (dense.flops, dense.params, dense.parameter_bytes) == real[:3]
    # There, whatever has three dimensions is taken for an activation, and no filter is.
    if name not in {"matmul from the left", "weight per head", "filters from the image"}:
        assert dense.activation_bytes == real[3]


def test_an_lstm_uses_every_weight_once_per_position():
    lstm = nn.LSTM(4, 5, num_layers=2)
    dense = cost_of(Calls(lambda f, x: f["a"](tokens(x))[0], a=lstm)).dense

    weights = [parameter.numel() for name, parameter in lstm.named_parameters() if name.startswith("weight")]
    assert dense.flops == 64 * sum(weights)
    assert dense.params == sum(parameter.numel() for parameter in lstm.parameters())


def test_flops_hold_products_between_activations_or_leave_them_out():
    model = MODELS["multi-head attention"]
    cost = cost_of(model)
    products, weights = 2 * 64 * 64 * 4, 64 * 4 * 16

    assert (cost.dense.flops, cost.dense.product_flops) == (products + weights, products)
    other = cost.without_products()
    assert (other.dense.flops, other.dense.product_flops) == (weights, products)
    assert (other.flops(other.sizes), other.counts_products) == ([weights], False)


def grouped(channels_in: int, channels_out: int, n_conv_groups: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, channels_in, 1),
        nn.Conv2d(channels_in, channels_out, 3, groups=n_conv_groups),
        nn.Conv2d(channels_out, 5, 1),
    )


def group_of(name: str, n_channels: int, *members: tuple[str, str, list[int]]) -> ChannelGroup:
    """Group whose members follow, with each of their channels in order, these channels of the group."""
    found = [GroupMember(layer, side, tuple(range(len(follows))), tuple(follows)) for layer, side, follows in members]
    return ChannelGroup(name, n_channels, tuple(found))


EQUALLY = GroupSet(
    (
        group_of("0", 6, ("0", "out", [*range(6)] * 2), ("1", "in", [*range(6)] * 2)),
        group_of("1", 4, ("1", "out", [*range(4)] * 2), ("2", "in", [*range(4)] * 2)),
    )
)
MULTIPLIER = GroupSet(
    (
        group_of(
            "0",
            4,
            ("0", "out", [*range(4)]),
            ("1", "in", [*range(4)]),
            ("1", "out", [c for c in range(4) for _ in range(3)]),
            ("2", "in", [c for c in range(4) for _ in range(3)]),
        ),
    )
)


@pytest.mark.parametrize(
    ("dense", "group_set", "widths", "compact"),
    [
        pytest.param((12, 8, 2), EQUALLY, (5, 3), (10, 6, 2), id="equal channels of every group"),
        pytest.param((4, 12, 4), MULTIPLIER, (3,), (3, 9, 3), id="depthwise multiplier"),
    ],
)
def test_grouped_convolutions_that_are_cut_cost_what_the_compact_ones_do(dense, group_set, widths, compact):
    costs = cost_of(grouped(*dense), group_set).evaluate(widths)

    found = [int(values[0]) for values in (costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes)]
    assert tuple(found) == counted(grouped(*compact), SHAPE)


def record(kind: str, *dimensions: ChannelCount, **more) -> LayerRecord:
    return LayerRecord("op", kind, (), dimensions[-2], dimensions[-1], dimensions=dimensions, **more)


def count(constant: int, **multiplicity: int) -> ChannelCount:
    return ChannelCount(constant, multiplicity)


HEADS = record("matmul", count(0, h=1), count(64), count(8), count(64))  # q @ k.T, whose heads are pruned
WIDTH = record("matmul", count(2), count(64), count(0, d=1), count(64))  # q @ k.T, whose head width is
LINEAR = record("matmul", count(2), count(0, d=1), count(64), count(1, e=1))  # k.T @ v of linear attention


@pytest.mark.parametrize(
    ("product", "widths", "sizes"),
    [(HEADS, {"h": 3}, (3, 64, 8, 64)), (WIDTH, {"d": 5}, (2, 64, 5, 64)), (LINEAR, {"d": 5, "e": 6}, (2, 5, 64, 7))],
)
def test_products_are_exact_for_any_width_and_so_is_the_work_of_their_kernels(product, widths, sizes):
    batch, rows, depth, columns = sizes
    dense = dict.fromkeys(widths, 16)

    costs = CostModel.from_records([product], dense).evaluate(list(widths.values()))
    kernels = KernelModel.from_records([product], dense)
    work = KernelFeatures(kernels).terms(list(widths.values()))[0]

    assert costs.flops == costs.product_flops == batch * rows * depth * columns == work
    assert costs.activation_bytes == 4 * batch * (rows * depth + depth * columns + rows * columns)
    assert costs.params == 0


def test_a_bare_parameter_has_the_product_of_its_dimensions_of_which_two_may_vary():
    table = record("parameter", count(3), count(0, h=2), count(1, d=1), executed=False)

    assert CostModel.from_records([table], {"h": 4, "d": 8}).evaluate((3, 5)).params == 3 * 6 * 6
    with pytest.raises(UnknownLayerError, match="'op': 3 of its dimensions are pruned, at most two may be"):
        CostModel.from_records([record("parameter", *[count(0, d=1)] * 3)], {"d": 8})


def test_attention_is_kernels_of_matrix_products_and_a_softmax():
    model = MODELS["encoder layer"]
    kernels = KernelModel.from_records(record_layers(model, NO_GROUPS, SHAPE), {}).kernels

    assert [kernel.kind for kernel in kernels] == ["fc", "mm", "ew", "mm", "fc", "ew", "fc", "fc", "ew"]
    assert [kernel.residual for kernel in kernels] == [False] * 4 + [True, False, False, True, False]
    scores, values = kernels[1], kernels[3]
    assert (scores.height_out, scores.width_out, scores.channels_in.constant, scores.channels_out.constant) == (
        64,
        2,
        2,
        64,
    )
    assert (values.height_out, values.width_out, values.channels_in.constant, values.channels_out.constant) == (
        64,
        2,
        64,
        2,
    )


@pytest.mark.parametrize("precision", ["fp32", "tc16"])
def test_a_board_takes_as_long_for_one_product_as_for_a_linear_layer_and_longer_for_many(precision):
    def times(records: list[LayerRecord]) -> tuple[float, float]:
        found = kernel_times(KernelModel.from_records(records, {}), [[]], load_profile("xavier_nx"), precision)
        return float(found.compute_ms[0, 0]), float(found.memory_ms[0, 0])

    linear = times([LayerRecord("fc", "linear", (), count(64), count(96), height_in=200, height_out=200)])
    one = times([record("matmul", count(1), count(200), count(64), count(96))])
    many = times([record("matmul", count(12), count(200), count(64), count(96))])

    assert one == linear
    assert many[0] > one[0]
    assert many[1] == pytest.approx(12 * one[1])


@pytest.mark.parametrize("precision", ["fp32", "tc16"])
@pytest.mark.parametrize(
    ("product", "widths"),
    [(HEADS, {"h": 3}), (WIDTH, {"d": 5}), (LINEAR, {"d": 5, "e": 6})],
    ids=["heads", "width", "linear"],
)
def test_pruned_attention_takes_as_long_as_attention_of_that_size(product, widths, precision):
    kept = list(widths.values())
    counts = [c.constant + sum(n * widths[name] for name, n in c.multiplicity.items()) for c in product.dimensions]
    pruned = KernelModel.from_records([product], dict.fromkeys(widths, 16))
    small = KernelModel.from_records([record("matmul", *map(count, counts))], {})

    found, real = (kernel_times(k, [w], load_profile("xavier_nx"), precision) for k, w in ((pruned, kept), (small, [])))
    features, wanted = KernelFeatures(pruned, WAVES).terms(kept), KernelFeatures(small, WAVES).terms([[]])
    if product is not LINEAR:  # whose rows and depth change places
        assert (found.compute_ms, found.memory_ms) == (real.compute_ms, real.memory_ms)
        assert (features == wanted).all()
    assert features[0] == wanted[0]


def test_norms_of_the_images_own_statistics_are_kernels_and_batch_norms_are_not():
    norms = [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 8, 8])]
    found = [
        [
            k.kind
            for k in KernelModel.from_records(
                record_layers(nn.Sequential(nn.Conv2d(4, 4, 1), n), NO_GROUPS, SHAPE), {}
            ).kernels
        ]
        for n in norms
    ]

    assert found == [["conv"], *[["conv", "ew"]] * 3]


def test_a_transposed_convolution_is_a_product_at_every_position_of_its_input():
    records = record_layers(nn.Sequential(nn.ConvTranspose2d(4, 6, 2, stride=2)), NO_GROUPS, SHAPE)
    kernel = KernelModel.from_records(records, {}).kernels[0]

    assert (kernel.kind, kernel.channels_out.constant, kernel.kernel_area) == ("conv", 24, 1)
    assert (kernel.height_out, kernel.width_out) == (8, 8)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("multi-head attention", r"layers\.a\.in_proj_weight, layers\.a\.bmm"),
        ("transposed convolution", "0, 1"),
        ("bare parameters", r"layers\.s\.0"),
    ],
)
def test_what_has_no_bit_widths_is_refused_by_name(name, told):
    with pytest.raises(UnknownLayerError, match=f"no cost of bit-widths for {told}"):
        BitLayers.from_model(MODELS[name], NO_GROUPS, SHAPE)
