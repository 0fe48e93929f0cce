from __future__ import annotations

import struct
import zlib

import pytest
import torch

from hdapbench.errors import PlanError
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import load_packed, pack_bits, packed_bytes, save_packed, unpack_bits
from tests.quant.quant_networks import KINDS, SHAPE, fixed, images, lowered


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
    # What is not weights: per channel bias, multiplier, shift and scale, and the header.
    n_channels = sum(len(layer.bias) for layer in model.layers.values())
    tables = sum(2 * len(o.table) for o in model.operations if o.table is not None)
    assert model.n_weight_bits / 8 <= n_bytes <= model.n_weight_bits / 8 + 17 * n_channels + tables + 1500


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
        (lambda data: data[:-3], "ends too early"),
        (lambda data: data + b"00", "2 bytes too many"),
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


def test_a_flipped_bit_anywhere_is_found_and_files_of_before_checksums_are_read(tmp_path):
    path = tmp_path / "model.hdpq"
    _, model = lowered("plain")
    save_packed(model, path)
    content = path.read_bytes()

    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(PlanError):
            load_packed(path)
    path.write_bytes(content[:5] + bytes(3) + content[8:])
    assert torch.equal(run_integer(load_packed(path), images(4)), run_integer(model, images(4)))


@pytest.mark.parametrize("text", [b"[" + b"[]," * 3_000_000 + b"[]]", b"[" * 2_000_000, b" " * (1 << 25), b"7", b"{}"])
def test_headers_that_inflate_to_very_much_or_to_something_else_are_refused(text, tmp_path):
    path = tmp_path / "model.hdpq"
    header = zlib.compress(text, 9)
    path.write_bytes(struct.pack("<4sII", b"HDPQ", 1, len(header)) + header)

    with pytest.raises(PlanError, match="is damaged"):
        load_packed(path)


def test_an_absent_file_is_said(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        load_packed(tmp_path / "none.hdpq")
