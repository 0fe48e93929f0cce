from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdapbench.models.attention import Attention, separate_heads, with_separate_heads
from hdapbench.models.yolo import quiet_ultralytics

TOKENS = (2, 49, 32)
MAP = (2, 32, 8, 8)

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "window": (
        "torchvision.models.swin_transformer:ShiftedWindowAttention",
        {"dim": 32, "window_size": [4, 4], "shift_size": [0, 0], "num_heads": 4},
        (2, 8, 8, 32),
    ),
    "shifted window with padding": (
        "torchvision.models.swin_transformer:ShiftedWindowAttention",
        {"dim": 32, "window_size": [4, 3], "shift_size": [2, 1], "num_heads": 4},
        (2, 9, 7, 32),
    ),
    "window larger than the map": (
        "torchvision.models.swin_transformer:ShiftedWindowAttention",
        {"dim": 32, "window_size": [7, 4], "shift_size": [3, 2], "num_heads": 4},
        (2, 5, 8, 32),
    ),
    "window of cosines": (
        "torchvision.models.swin_transformer:ShiftedWindowAttentionV2",
        {"dim": 32, "window_size": [4, 4], "shift_size": [2, 2], "num_heads": 4},
        (2, 8, 8, 32),
    ),
    "maxvit": (
        "torchvision.models.maxvit:RelativePositionalMultiHeadAttention",
        {"feat_dim": 32, "head_dim": 8, "max_seq_len": 49},
        (2, 4, 49, 32),
    ),
    "timm": ("timm.layers.attention:Attention", {"dim": 32, "num_heads": 4, "qkv_bias": True}, TOKENS),
    "timm with norms": (
        "timm.layers.attention:Attention",
        {"dim": 32, "num_heads": 4, "qk_norm": True, "norm_layer": nn.LayerNorm, "attn_head_dim": 6},
        TOKENS,
    ),
    "timm fastvit": ("timm.models.fastvit:Attention", {"dim": 32, "head_dim": 8}, MAP),
    "timm davit": ("timm.models.davit:WindowAttention", {"dim": 32, "window_size": (7, 7), "num_heads": 4}, TOKENS),
    "timm davit, channels": ("timm.models.davit:ChannelAttention", {"dim": 32, "num_heads": 4}, TOKENS),
    "timm swin": (
        "timm.models.swin_transformer:WindowAttention",
        {"dim": 32, "window_size": 7, "num_heads": 4},
        TOKENS,
    ),
    "timm beit": (
        "timm.models.beit:Attention",
        {"dim": 32, "num_heads": 4, "qkv_bias": True, "window_size": (6, 8)},
        TOKENS,
    ),
    "timm cait, classes": ("timm.models.cait:ClassAttn", {"dim": 32, "num_heads": 4}, TOKENS),
    "timm cait, talking heads": ("timm.models.cait:TalkingHeadAttn", {"dim": 32, "num_heads": 4}, TOKENS),
    "timm maxvit": ("timm.models.maxxvit:AttentionCl", {"dim": 32, "dim_head": 8}, (2, 7, 7, 32)),
    "timm maxvit, heads last": (
        "timm.models.maxxvit:AttentionCl",
        {"dim": 32, "dim_head": 8, "head_first": False},
        (2, 7, 7, 32),
    ),
    "timm levit": (
        "timm.models.levit:Attention",
        {"dim": 32, "key_dim": 4, "num_heads": 4, "attn_ratio": 2.0, "resolution": 7},
        TOKENS,
    ),
    "timm levit, downsampling": (
        "timm.models.levit:AttentionDownsample",
        {"in_dim": 32, "out_dim": 24, "key_dim": 4, "num_heads": 4, "attn_ratio": 2.0, "resolution": 7},
        TOKENS,
    ),
    "timm efficientformer": (
        "timm.models.efficientformer:Attention",
        {"dim": 32, "key_dim": 8, "num_heads": 4},
        TOKENS,
    ),
    "ultralytics": ("ultralytics.nn.modules.block:Attention", {"dim": 32, "num_heads": 4, "attn_ratio": 0.5}, MAP),
    "ultralytics, areas": ("ultralytics.nn.modules.block:AAttn", {"dim": 32, "num_heads": 4, "area": 4}, MAP),
}


def kind(name: str) -> type[nn.Module]:
    source, _, attribute = name.partition(":")
    if find_spec(source.partition(".")[0]) is None:
        pytest.skip(f"{source} is not installed")
    with quiet_ultralytics():
        found: type[nn.Module] = getattr(importlib.import_module(source), attribute)
    return found


def with_random_weights(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and "coords" not in name:
                tensor.copy_(
                    torch.rand(tensor.shape, generator=generator) * 0.5 + (0.5 if "running_var" in name else -0.25)
                )
    return module


def equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) <= 1e-6 * max(float(a.detach().abs().max()), 1.0)


def replaced(module: nn.Module) -> nn.Module:
    holder = nn.Sequential(deepcopy(module))
    assert separate_heads(holder) == 1
    assert isinstance(holder[0], Attention)
    return holder[0]


@pytest.mark.parametrize("case", CASES)
def test_attention_with_separate_projections_is_equal_number_for_number(case: str) -> None:
    name, arguments, shape = CASES[case]
    module = with_random_weights(kind(name)(**arguments))
    form = replaced(module)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    for training in (True, False):
        module.train(training)
        form.train(training)
        assert equal(module(x), form(x))


@pytest.mark.parametrize("case", CASES)
def test_weights_under_the_names_of_the_original_load_and_those_of_the_form_too(case: str) -> None:
    name, arguments, shape = CASES[case]
    module = nn.Sequential(with_random_weights(kind(name)(**arguments))).eval()
    form = nn.Sequential(replaced(kind(name)(**arguments))).eval()

    form.load_state_dict(with_separate_heads(form, module.state_dict()))

    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert equal(module(x), form(x))
    assert with_separate_heads(form, form.state_dict()).keys() == form.state_dict().keys()


MASKS: dict[str, Callable[[int, int, int], dict[str, Tensor]]] = {
    "none": lambda n, target, source: {},
    "of numbers": lambda n, target, source: {"attn_mask": torch.linspace(-1, 1, target * source).view(target, source)},
    "by head": lambda n, target, source: {"attn_mask": torch.rand(4 * n, target, source)},
    "padding": lambda n, target, source: {"key_padding_mask": torch.arange(source).expand(n, source) > source - 3},
    "both": lambda n, target, source: {
        "attn_mask": torch.ones(target, source, dtype=torch.bool).triu(2),
        "key_padding_mask": torch.arange(source).expand(n, source) > source - 2,
    },
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("arguments", [{}, {"batch_first": True}, {"kdim": 12, "vdim": 20, "bias": False}])
def test_torchs_own_attention_is_equal_with_masks_other_tokens_and_weights(arguments, masks) -> None:
    module = with_random_weights(nn.MultiheadAttention(32, 4, **arguments))
    form = replaced(module)
    n, target, source = 2, 5, 7
    sizes = [(target, 32), (source, arguments.get("kdim", 32)), (source, arguments.get("vdim", 32))]
    first = arguments.get("batch_first", False)
    tokens = [torch.randn((n, length, width) if first else (length, n, width)) for length, width in sizes]
    given = MASKS[masks](n, target, source)

    for training in (True, False):
        for averaged in (True, False):
            expected = module.train(training)(*tokens, **given, average_attn_weights=averaged)
            found = form.train(training)(*tokens, **given, average_attn_weights=averaged)
            assert all(equal(a, b) for a, b in zip(expected, found, strict=True))
        assert form(*tokens, **given, need_weights=False)[1] is None


def test_torchs_encoders_and_decoders_take_no_kernel_of_their_own_instead() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    encoder = with_random_weights(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    decoder = with_random_weights(nn.TransformerDecoderLayer(32, 4, 64, dropout=0.0, batch_first=True)).eval()
    x, padding = torch.randn(2, 6, 32), torch.arange(6).expand(2, 6) > torch.tensor([[5], [3]])
    with torch.no_grad():
        expected = encoder(x), encoder(x, src_key_padding_mask=padding)[:, :4], decoder(x, x)

        encoder.use_nested_tensor = True  # by default: torch then packs sequences for its kernel, and warns of it
        assert separate_heads(encoder) == 2
        assert separate_heads(decoder) == 2
        found = encoder(x), encoder(x, src_key_padding_mask=padding)[:, :4], decoder(x, x)

    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))


def test_an_attention_used_twice_stays_one_and_one_of_another_kind_stays_as_it_is() -> None:
    class Mine(nn.MultiheadAttention):
        def forward(self, *tokens: Tensor) -> Tensor:
            return super().forward(*tokens)[0] * 2

    shared = nn.MultiheadAttention(8, 2)
    model = nn.ModuleList([nn.ModuleList([shared]), shared, Mine(8, 2), nn.MultiheadAttention(8, 2, add_bias_kv=True)])

    assert separate_heads(model) == 1
    assert model[0][0] is model[1]
    assert [type(module) for module in model[2:]] == [Mine, nn.MultiheadAttention]


def test_removing_heads_is_removing_rows_and_lowering_one_attribute() -> None:
    form = replaced(with_random_weights(nn.MultiheadAttention(12, 3, batch_first=True))).eval()
    x = torch.randn(2, 5, 12)
    masked, small = deepcopy(form), deepcopy(form)
    with torch.no_grad():
        masked.out.weight[:, 4:8] = 0
        for name in ("q", "k", "v"):
            layer = getattr(small, name)
            layer.weight = nn.Parameter(torch.cat([layer.weight[:4], layer.weight[8:]]))
            layer.bias = nn.Parameter(torch.cat([layer.bias[:4], layer.bias[8:]]))
        small.out.weight = nn.Parameter(torch.cat([small.out.weight[:, :4], small.out.weight[:, 8:]], dim=1))
        small.n_heads = 2

    assert equal(masked(x, x, x)[0], small(x, x, x)[0])
