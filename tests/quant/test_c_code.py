"""C code of networks against the executor, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hdapbench.cost import arena
from hdapbench.cost.hardware import hardware_cost, soft_cost
from hdapbench.errors import HdapbenchError, UnknownLayerError
from hdapbench.quant.deploy.c99 import About, c_code, footprint, identifier
from hdapbench.quant.deploy.lower import lower
from tests.quant.c_programs import M4, check, needs_arm, needs_gcc, program, write
from tests.quant.quant_networks import KINDS, SHAPE, Awkward, fixed, images, lowered

GCC, SIZE = (shutil.which(name) or name for name in ("gcc", "arm-none-eabi-size"))


def awkward():
    torch.manual_seed(0)
    shape, x = (3, 9, 9), torch.randn(16, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=shape, x=x)
    return lower(quantised, folded.group_set, shape), x


@needs_gcc
@pytest.mark.parametrize("activation_bits", [8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_c_code_computes_what_the_executor_computes_to_the_last_bit(kind, activation_bits, tmp_path):
    _, model = lowered(kind, activation_bits=activation_bits)

    check(c_code(model, kind), tmp_path, images(32))


@needs_gcc
def test_grouped_dilated_padded_and_ceil_windows_are_exact(tmp_path):
    model, x = awkward()

    check(c_code(model, "awkward"), tmp_path, x)


@needs_arm
@pytest.mark.parametrize("kind", ["mixed", "depthwise", "awkward"])
def test_thumb_code_of_a_cortex_m4_is_exact_under_qemu(kind, tmp_path):
    model, x = awkward() if kind == "awkward" else (lowered(kind)[1], images(16))

    check(c_code(model, kind), tmp_path, x, arm=True)


class Block(nn.Module):
    """One piece of a random network: what its letter says, with sizes from a seed."""

    def __init__(self, kind: str, n_in: int, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)

        def one_of(*choices):
            return choices[int(torch.randint(len(choices), (1,), generator=draw))]

        self.kind, self.n_out = kind, n_in
        if kind == "conv":
            self.n_out = one_of(4, 6, 9)
            same = one_of(True, False)
            kernel = (3, one_of(1, 3)) if same else (one_of(1, 2, 3), one_of(1, 3))
            stride, dilation = (one_of(1, 2), one_of(1, 2)), (one_of(1, 2), one_of(1, 1, 2))
            padding = "same" if same else (one_of(0, 1), one_of(0, 1))
            self.conv = nn.Conv2d(n_in, self.n_out, kernel, 1 if same else stride, padding, dilation)
        elif kind == "depthwise":
            self.conv = nn.Conv2d(n_in, n_in, 3, one_of(1, 2), 1, groups=n_in)
        elif kind == "grouped":
            groups = 2 if n_in % 2 == 0 else 1
            self.n_out = groups * one_of(2, 3)
            self.conv = nn.Conv2d(n_in, self.n_out, 3, 1, 1, groups=groups)
        elif kind == "residual":
            self.conv = nn.Conv2d(n_in, n_in, 3, 1, 1)
        elif kind == "concat":
            self.conv, self.other = nn.Conv2d(n_in, 3, 1), nn.Conv2d(n_in, 4, 3, 1, 1)
            self.n_out = 7
        elif kind == "gate":
            self.conv = nn.Conv2d(n_in, n_in, 1)
        self.act = one_of(functional.relu, functional.silu, functional.relu6, lambda x: x)

    def forward(self, x):
        if self.kind == "residual":
            return self.act(x + self.conv(x))
        if self.kind == "concat":
            return torch.cat([self.conv(x), functional.relu(self.other(x))], 1)
        if self.kind == "gate":
            return x * torch.sigmoid(self.conv(functional.adaptive_avg_pool2d(x, 1)))
        if self.kind == "max":
            return functional.max_pool2d(x, 2, 2, ceil_mode=True)
        if self.kind == "avg":
            return functional.avg_pool2d(x, 2, 1, 1)
        return self.act(self.conv(x))


class RandomNetwork(nn.Module):
    def __init__(self, shape, kinds, end, seed) -> None:
        super().__init__()
        torch.manual_seed(seed)
        blocks, channels = [], shape[0]
        for number, kind in enumerate(["conv", *kinds]):
            blocks.append(Block(kind, channels, seed + number))
            channels = blocks[-1].n_out
        self.blocks = nn.Sequential(*blocks)
        with torch.no_grad():
            features = self.blocks(torch.zeros(1, *shape)).shape[1:]
        self.end = {
            "flat": lambda: [nn.Flatten(), nn.Linear(features.numel(), 6), nn.ReLU(), nn.Linear(6, 3)],
            "pool": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)],
            "sigmoid": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3), nn.Sigmoid()],
            "mean": lambda: [nn.Conv2d(channels, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
            "map": lambda: [nn.Conv2d(channels, 2, 1)],
        }[end]()
        self.tail = nn.Sequential(*self.end)

    def forward(self, x):
        return self.tail(self.blocks(x))


def chunked():
    """Halves of a map that swap places, one of them through a convolution."""

    class Chunked(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.end = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1), nn.Linear(8, 3)

        def forward(self, x):
            left, right = functional.relu(self.stem(x)).chunk(2, 1)
            return self.end(torch.cat([right, self.one(left)], 1).mean((2, 3)))

    torch.manual_seed(0)
    quantised, folded = fixed(Chunked().eval())
    return lower(quantised, folded.group_set, SHAPE), quantised, folded


@needs_gcc
def test_channels_that_are_taken_by_number_are_exact(tmp_path):
    model, quantised, folded = chunked()
    code = c_code(model, "chunked")

    check(code, tmp_path, images(16))

    assert {call.kernel.kind for call in code.calls} >= {"take", "move"}
    assert closed_forms(quantised, folded)["ram"] == footprint(code).ram


BLOCKS = ["conv", "depthwise", "grouped", "residual", "concat", "gate", "max", "avg"]


@needs_gcc
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.tuples(st.integers(1, 3), st.integers(6, 9), st.integers(6, 9)),
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.sampled_from(["flat", "pool", "sigmoid", "mean", "map"]),
    st.sampled_from([8, 4, 2]),
    st.integers(0, 99),
)
def test_random_networks_are_exact(tmp_path, shape, kinds, end, bits, seed):
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed))
    x = x.abs() if seed % 2 else x
    try:
        network = RandomNetwork(shape, kinds, end, seed).eval()
    except RuntimeError:  # a map is smaller than its kernel
        reject()
    quantised, folded = fixed(network, seed=seed, activation_bits=bits, shape=shape, x=x)

    check(c_code(lower(quantised, folded.group_set, shape), "net"), tmp_path, x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "digits"),
        ("5f2c", "model_5f2c"),
        ("int", "model_int"),
        ("Ünï näme!", "n_n_me"),
        ("", "model"),
        ("__x", "x"),
        ("class", "model_class"),
        ("a/*b*/", "a_b"),
    ],
)
def test_any_name_becomes_an_identifier(name, expected):
    assert identifier(name) == expected


@needs_gcc
def test_classes_and_origin_stand_in_the_header_whatever_they_are(tmp_path):
    _, model = lowered("plain")
    about = About("trial */ int x; ??/", ('"quoted"', "back\\slash", "Straße??/", "a\nb"), ("*/",))
    code = c_code(model, "named", about)
    source = write(code, tmp_path)
    text = '#include <stdio.h>\n#include "named.h"\nstatic const char *const names[] = {NAMED_CLASSES};\n'
    source.with_name("main.c").write_text(
        text + 'int main(void)\n{\n    return printf("%s|%s|%s|%s", names[0], names[1], names[2], names[3]) < 0;\n}\n'
    )

    subprocess.run(
        [GCC, "-std=c99", "-Wall", "-pedantic", "-Werror", "-o", tmp_path / "a", tmp_path / "main.c"], check=True
    )

    said = subprocess.run([tmp_path / "a"], capture_output=True, check=True).stdout.decode()
    assert said == '"quoted"|back\\slash|Straße??/|a\nb'


def test_generated_code_has_no_floats_no_heap_and_no_library():
    code = c_code(lowered("mixed")[1], "mixed")

    assert re.findall(r"#include .*", code.source + code.header) == ['#include "mixed.h"', "#include <stdint.h>"]
    assert not re.search(r"\b(float|double|malloc|free|printf|memcpy)\b", code.source)
    assert not re.search(r"\d\.\d", code.source)


@needs_arm
@pytest.mark.parametrize("kind", [*KINDS, "awkward"])
def test_flash_and_ram_are_what_the_compiler_says(kind, tmp_path):
    code = c_code(awkward()[0] if kind == "awkward" else lowered(kind)[1], kind)
    found = footprint(code)
    built = tmp_path / "net.o"

    subprocess.run([*M4, "-c", "-fstack-usage", "-o", built, write(code, tmp_path)], check=True)

    text, data, bss = map(
        int,
        subprocess.run([SIZE, built], capture_output=True, text=True, check=True).stdout.split()[6:9],
    )
    assert bss == found.arena
    assert data == 0
    assert text <= found.flash <= 1.12 * text + 100
    depths = {
        line.split()[0].split(":")[-1]: int(line.split()[1])
        for line in built.with_suffix(".su").read_text().splitlines()
    }
    called = [n for name, n in depths.items() if name.startswith(("dot", "filter", "rescaled"))]
    of_kernels = [n for name, n in depths.items() if not name.startswith(("dot", "filter", "rescaled", f"{kind}_run"))]
    assert depths[f"{kind}_run"] + max(of_kernels) + max(called, default=0) <= found.stack


def closed_forms(quantised, folded):
    inputs = {name: quantised.activation_bits[place] for name, place in quantised.graph.input_quantizers.items()}
    counts = folded.layers.counts_of_layers(quantised.weight_bits, inputs)
    return {name: float(hardware_cost(name)(folded.layers, counts)) for name in ("ram", "flash")}


@pytest.mark.parametrize("kind", [*KINDS, "awkward"])
def test_ram_and_flash_are_known_from_channels_alone(kind):
    torch.manual_seed(0)
    shape, x = ((3, 9, 9), torch.randn(16, 3, 9, 9)) if kind == "awkward" else (SHAPE, images())
    quantised, folded = fixed(Awkward().eval() if kind == "awkward" else kind, shape=shape, x=x)
    found = footprint(c_code(lower(quantised, folded.group_set, shape), "net"))

    known = closed_forms(quantised, folded)

    assert known["ram"] == found.ram
    assert known["flash"] == pytest.approx(found.flash, rel=0.12)


def test_smooth_ram_and_flash_lie_near_the_exact_ones_and_fall_with_every_channel():
    _, folded = fixed("residual")
    layers = folded.layers
    channels = torch.zeros(len(layers.selectors), 2, dtype=torch.float64)
    channels[:, 1] = torch.tensor([float(selector.n_channels) for selector in layers.selectors])
    channels.requires_grad_()

    for name in ("ram", "flash"):
        smooth = soft_cost(name)(layers, layers.counts(channels, (0, 8)))
        (gradient,) = torch.autograd.grad(smooth, channels)

        assert smooth.item() == pytest.approx(float(hardware_cost(name)(layers, layers.uniform_counts(8))), rel=0.15)
        prunable = torch.tensor([selector.prunable for selector in layers.selectors])
        assert bool((gradient[prunable, 1] > 0).all())


def test_blocks_in_use_at_the_same_time_do_not_overlap():
    draw = torch.Generator().manual_seed(0)
    for _ in range(100):
        numbers = torch.randint(0, 8, (9, 3), generator=draw).tolist()
        blocks = [arena.Block(str(k), 1 + 4 * n, a, a + m // 2) for k, (a, n, m) in enumerate(numbers)]
        offsets, total = arena.place(blocks)
        for number, one in enumerate(blocks):
            start, stop = offsets[one.name], offsets[one.name] + one.n_bytes
            assert stop <= total
            for other in blocks[:number]:
                if one.first <= other.last and other.first <= one.last:
                    assert offsets[other.name] >= stop or offsets[other.name] + other.n_bytes <= start


def test_what_has_no_c_code_is_refused_by_name(monkeypatch):
    _, model = lowered("plain")
    monkeypatch.setattr("hdapbench.quant.deploy.c99.values.MOST_SUM", 100)

    with pytest.raises(UnknownLayerError, match=r"^'.*': its sums may exceed 32 bits, so it has no C code$"):
        c_code(model, "plain")


def test_a_file_name_that_no_source_can_include_is_refused():
    with pytest.raises(HdapbenchError, match="can include"):
        c_code(lowered("plain")[1], "x", header_name='a".h')


@needs_gcc
def test_two_networks_live_in_one_program(tmp_path):
    first, second = (c_code(lowered(kind)[1], kind) for kind in ("plain", "mixed"))
    write(first, tmp_path)
    check(second, tmp_path, images(4))
    command = program(second, tmp_path, arm=False)

    objects = subprocess.run(
        [GCC, "-std=c99", "-c", tmp_path / "plain.c", tmp_path / "mixed.c"], cwd=tmp_path, check=False
    )
    assert objects.returncode == 0
    assert command
    linked = subprocess.run([GCC, "-r", "-o", "both.o", "plain.o", "mixed.o"], cwd=tmp_path, check=False)
    assert linked.returncode == 0
