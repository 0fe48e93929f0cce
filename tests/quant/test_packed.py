from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hdapbench.cost.bits import CHANNEL_BYTES
from hdapbench.errors import PlanError
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import (
    constant_bytes,
    load_packed,
    pack_bits,
    packed_bytes,
    save_packed,
    unpack_bits,
)
from tests.quant.quant_networks import KINDS, SHAPE, Awkward, fixed, images, lowered

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("n", [1, 3, 4, 257])
def test_packed_numbers_come_back_and_take_their_bits(bits, n):
    values = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (n,), dtype=torch.int8)

    data = pack_bits(values, bits)

    assert len(data) == -(-n * bits // 8)
    assert torch.equal(unpack_bits(data, bits, (n,)), values)


def test_the_first_number_lies_in_the_lowest_bits():
    assert pack_bits(torch.tensor([1, -1, 0, -2], dtype=torch.int8), 2) == bytes([0b10_00_11_01])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_the_same_model_and_its_weights_take_what_the_cost_model_says(kind, tmp_path):
    _, model = lowered(kind)

    n_bytes = save_packed(model, tmp_path / "model.hdpq")
    again = load_packed(tmp_path / "model.hdpq")

    assert torch.equal(run_integer(again, images(32)), run_integer(model, images(32)))
    assert again.n_weight_bits == model.n_weight_bits
    assert n_bytes == (tmp_path / "model.hdpq").stat().st_size
    assert packed_bytes(again) == (tmp_path / "model.hdpq").read_bytes()
    assert 0 < n_bytes - constant_bytes(model) <= 1500  # the structure


@pytest.mark.parametrize("kind", KINDS)
def test_constants_are_weights_nine_bytes_per_channel_and_what_joins_and_tables_need(kind):
    _, model = lowered(kind)

    layers = model.layers.values()
    weights = sum(-(-part.weight.numel() * part.bits // 8) for layer in layers for part in layer.parts)
    channels = CHANNEL_BYTES * sum(len(layer.bias) for layer in layers)
    orders = sum(-(-len(layer.bias) // 4) for layer in layers if layer.order is not None)
    joins = sum(5 * len(o.rescale) for o in model.operations if o.layer is None)
    tables = sum(len(o.table) for o in model.operations if o.table is not None)
    assert constant_bytes(model) == weights + channels + orders + joins + tables


def test_fewer_bits_make_a_smaller_file(tmp_path):
    quantised, folded = fixed("residual")
    sizes = []
    for bits in (8, 4, 2):
        quantised.weight_bits = {name: (bits,) * len(found) for name, found in quantised.weight_bits.items()}
        sizes.append(len(packed_bytes(lower(quantised, folded.group_set, SHAPE))))

    n_weights = sum(weight.numel() for weight in quantised.weights)
    assert sizes[0] - sizes[1] == pytest.approx(n_weights / 2, abs=30)
    assert sizes[1] - sizes[2] == pytest.approx(n_weights / 4, abs=30)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"PK" + data[2:], "is not a packed model"),
        (lambda data: data[:4] + b"\x09" + data[5:], "newer hdapbench"),
        (lambda data: sealed(data[:4] + b"\x03" + data[5:-4]), "newer hdapbench .format 3"),
        (lambda data: data[:4] + b"\x01" + data[5:], "older hdapbench"),
        (lambda data: data[:-3], "is damaged"),
        (lambda data: data + b"00", "is damaged"),
        (lambda data: sealed(data[:-7]), "ends too early"),
        (lambda data: sealed(data[:-4] + b"00"), "2 bytes too many"),
        (lambda data: data[:40] + b"\x00\x00\x00" + data[43:], "is damaged"),
        (lambda data: b"", "is not a packed model"),
    ],
)
def test_damaged_files_are_refused(damage, message, tmp_path):
    path = tmp_path / "model.hdpq"
    save_packed(lowered("plain")[1], path)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(PlanError, match=message):
        load_packed(path)


def mutations(content: bytes, n: int) -> Iterator[bytes]:
    """Bits flipped, bytes set, cut out, doubled, swapped with others, and ends cut."""
    rng = random.Random(0)
    for number in range(n):
        start = rng.randrange(len(content))
        stop = min(len(content), start + rng.choice((1, 1, 2, 4, 40)))
        block = content[start:stop]
        yield (
            content[:start]
            + (
                bytes([block[0] ^ 1 << rng.randrange(8)]) + content[start + 1 :],
                rng.randbytes(len(block)) + content[stop:],
                content[stop:],
                block + content[start:],
                content[stop : stop + len(block)] + block + content[stop + len(block) :],
                b"",
            )[number % 6]
        )


def test_no_damage_loads_and_each_gives_one_line(tmp_path):
    path = tmp_path / "model.hdpq"
    save_packed(lowered("plain")[1], path)
    content = path.read_bytes()

    for damaged in mutations(content, 2500):
        path.write_bytes(damaged)
        if damaged != content:
            with pytest.raises(PlanError, match=r"^'.*' (is|was) [^\n]*$"):
                load_packed(path)


def sealed(content: bytes) -> bytes:
    """A file with the right checksum."""
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize("text", [b"[" + b"[]," * 3_000_000 + b"[]]", b"[" * 2_000_000, b" " * (1 << 25), b"7", b"{}"])
def test_headers_that_inflate_to_very_much_or_to_something_else_are_refused(text, tmp_path):
    path = tmp_path / "model.hdpq"
    header = zlib.compress(text, 9)
    path.write_bytes(sealed(struct.pack("<4sII", b"HDPQ", 2, len(header)) + header))

    with pytest.raises(PlanError, match="is damaged"):
        load_packed(path)


def test_an_absent_file_is_said(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        load_packed(tmp_path / "none.hdpq")


READER = re.findall(r"```python\n(.*?)```", (ROOT / "docs/packed-format.md").read_text(), re.DOTALL)[0]


def read_and_run(model: IntegerModel, x: torch.Tensor) -> torch.Tensor:
    names: dict[str, Any] = {}
    exec(READER, names)  # noqa: S102 - the page's own code
    return torch.from_numpy(names["run"](names["read"](packed_bytes(model)), x.numpy()))


@pytest.mark.parametrize("activation_bits", [8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_reader_computes_what_the_executor_computes(kind, activation_bits):
    _, model = lowered(kind, activation_bits=activation_bits)

    assert torch.equal(read_and_run(model, images(16)), run_integer(model, images(16)))


def test_the_documented_reader_knows_unusual_windows_and_is_short():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=(3, 9, 9), x=x)
    model = lower(quantised, folded.group_set, (3, 9, 9))

    assert torch.equal(read_and_run(model, x), run_integer(model, x))
    assert len(READER.splitlines()) <= 120
    assert "zlib.crc32" in READER
