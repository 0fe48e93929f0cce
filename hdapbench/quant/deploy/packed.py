"""Packed files: an IntegerModel on disk, with 2- and 4-bit weights really packed.

docs/packed-format.md describes every byte and holds a reader of its own. Numbers are little-endian. Everything is data:
reading a file executes nothing.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from hdapbench.errors import PlanError
from hdapbench.files import replacing
from hdapbench.quant.deploy.integer import IntegerLayer, IntegerModel, IntegerOperation, Rescale, SubLayer
from hdapbench.quant.graph.graph import Op
from hdapbench.quant.graph.walk import LayerShape

PACKED = "model.hdpq"
"""Name of a packed model among a trial's artifacts."""

MAGIC = b"HDPQ"
VERSION = 2
PREAMBLE = struct.Struct("<4sII")
"""Magic, version, length of the header."""

CHECKSUM = struct.Struct("<I")
"""CRC-32 of all before it: the end of a file."""

ORDER_BITS = 2
"""Of the number of the part that an output channel's filter lies in, where filters are out of order."""

MOST_HEADER_BYTES = 1 << 22
"""Some thousand operations; what JSON makes of more could take gigabytes."""

MOST_SIDE, MOST_VALUES = 1 << 24, 1 << 28


def pack_bits(values: Tensor, bits: int) -> bytes:
    """Signed whole numbers of 2, 4 or 8 bits, packed without gaps, the first in the lowest bits of a byte."""
    unsigned = values.flatten().numpy().astype(np.uint8) & ((1 << bits) - 1)
    per_byte = 8 // bits
    padded = np.zeros(-(-len(unsigned) // per_byte) * per_byte, dtype=np.uint8)
    padded[: len(unsigned)] = unsigned
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    packed: bytes = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8).tobytes()
    return packed


def unpack_bits(data: bytes, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Whole numbers that `pack_bits` packed, int8."""
    per_byte = 8 // bits
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    spread = (np.frombuffer(data, dtype=np.uint8)[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    values = spread.reshape(-1)[: int(np.prod(shape))].astype(np.int16)
    signed = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return torch.from_numpy(signed.astype(np.int8)).reshape(shape)


def packed_bytes(model: IntegerModel) -> bytes:
    """Content of a model's packed file."""
    writer = _Writer()
    header = {"input_shape": model.input_shape, "operations": [writer.operation(o) for o in model.operations]}
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    content = PREAMBLE.pack(MAGIC, VERSION, len(text)) + text + b"".join(writer.blobs)
    return content + CHECKSUM.pack(zlib.crc32(content))


def constant_bytes(model: IntegerModel) -> int:
    """Bytes of all constants in a model's packed file, which a device must store: weights, biases, rescales, tables.

    Each output channel of a layer costs its weights and `hdapbench.cost.bits.CHANNEL_BYTES`. What is left in the file
    is structure, which becomes code on a device.
    """
    writer = _Writer()
    for operation in model.operations:
        writer.operation(operation)
    return sum(map(len, writer.blobs))


def save_packed(model: IntegerModel, path: Path) -> int:
    """Write a model, whole or not at all; the number of bytes."""
    with replacing(path) as partial:
        return partial.write_bytes(packed_bytes(model))


def load_packed(path: Path) -> IntegerModel:
    """Model of a packed file.

    Raises
    ------
    PlanError
        When the file is absent, damaged, or of another version of the format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"'{path}' cannot be read: {error.strerror}") from None
    if len(content) < PREAMBLE.size or content[:4] != MAGIC:
        raise PlanError(f"'{path}' is not a packed model")
    _, version, length = PREAMBLE.unpack_from(content)
    if version & 0xFF == 1:  # its other bits were a checksum
        raise PlanError(
            f"'{path}' was written by an older hdapbench (format 1): run its trial again in a new workspace"
        )
    body, end = content[: -CHECKSUM.size], content[-CHECKSUM.size :]
    if CHECKSUM.pack(zlib.crc32(body)) != end:
        newer = f", or of a newer hdapbench (this one reads format {VERSION})" if version != VERSION else ""
        raise PlanError(f"'{path}' is damaged{newer}: its content is not what was written")
    if version != VERSION:
        raise PlanError(f"'{path}' was written by a newer hdapbench (format {version}, this one reads {VERSION})")
    try:
        return _model(body, PREAMBLE.size + length)
    except _DAMAGE as error:
        raise PlanError(f"'{path}' is damaged: {' '.join(str(error).split())[:120]}") from error


def _model(body: bytes, start: int) -> IntegerModel:
    """Model of a file whose constants begin at ``start``."""
    header, reader = _header(body[PREAMBLE.size : start]), _Reader(body[start:])
    operations = tuple(reader.operation(entry) for entry in header["operations"])
    model = IntegerModel(operations, _shape(header["input_shape"], 3))
    _check_order(model)
    if reader.n_left:
        raise ValueError(f"{reader.n_left} bytes too many")
    return model


_DAMAGE = (
    *(zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError),
    *(RuntimeError, MemoryError),  # of torch, for shapes that cannot be
)


def _header(deflated: bytes) -> dict[str, Any]:
    """The header's values, if they are a mapping of bearable size."""
    inflate = zlib.decompressobj()
    text = inflate.decompress(deflated, MOST_HEADER_BYTES)
    if not inflate.eof or inflate.unused_data:
        raise ValueError("its header is cut, too long, or followed by something")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise TypeError("its header is no mapping")
    return header


def _shape(values: Any, length: int | None = None) -> Any:
    """Whole numbers from 1, as a tuple."""
    shape = tuple(values)
    if length not in (None, len(shape)) or any(type(side) is not int or not 0 < side <= MOST_SIDE for side in shape):
        raise ValueError(f"{str(values)[:40]} is no shape")
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"{str(values)[:40]} is no shape")
    return shape


def _check_order(model: IntegerModel) -> None:
    """Every operation is of a kind that can be carried out, and takes what came before it."""
    known: set[str] = set()
    for operation in model.operations:
        if operation.op not in get_args(Op) or (operation.layer is None) != (operation.op != "layer"):
            raise ValueError(f"'{operation.name}' is no operation")
        if not set(operation.inputs) <= known:
            raise ValueError(f"'{operation.name}' takes what is not there")
        known.add(operation.name)


class _Writer:
    """Tensors become blobs, in the order in which a reader asks for them; the header holds the rest."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []

    def operation(self, operation: IntegerOperation) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": operation.name,
            "op": operation.op,
            "inputs": operation.inputs,
            "scale": operation.scale,
            "low": operation.low,
            "high": operation.high,
            "arguments": dict(operation.arguments),
            "rescale": [len(rescale.multiplier) for rescale in operation.rescale],
        }
        for rescale in operation.rescale:
            self._array(rescale.multiplier, np.uint32)
            self._array(rescale.shift, np.uint8)
        if operation.layer is not None:
            entry["layer"] = self._layer(operation.layer)
        if operation.table is not None:
            entry["table"] = [operation.table_start, len(operation.table)]
            self._array(operation.table - (operation.low or 0), np.uint8)
        return entry

    def _layer(self, layer: IntegerLayer) -> dict[str, Any]:
        for part in layer.parts:
            self.blobs.append(pack_bits(part.weight, part.bits))
        self._array(layer.bias, np.int32)
        if layer.order is not None:
            counts = torch.tensor([len(part.weight) for part in layer.parts])
            self.blobs.append(pack_bits(torch.repeat_interleave(counts)[layer.order], ORDER_BITS))
        return {
            "shape": asdict(layer.shape),
            "parts": [[part.bits, list(part.weight.shape)] for part in layer.parts],
            "reordered": layer.order is not None,
        }

    def _array(self, values: Tensor, dtype: type[np.generic]) -> None:
        array = values.numpy().astype(dtype)
        self.blobs.append(array.astype(array.dtype.newbyteorder("<")).tobytes())


class _Reader:
    """Takes tensors from the blobs in the order in which they were written."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def n_left(self) -> int:
        """Bytes that nothing has asked for."""
        return len(self._data) - self._position

    def operation(self, entry: dict[str, Any]) -> IntegerOperation:
        rescale = tuple(
            Rescale(self._array(n, np.uint32, torch.int64), self._array(n, np.uint8, torch.int64))
            for n in entry["rescale"]
        )
        layer = self._layer(entry["layer"]) if "layer" in entry else None
        start, n_entries = entry.get("table", (0, 0))
        low = entry["low"]
        table = self._array(n_entries, np.uint8, torch.int16) + (low or 0) if n_entries else None
        return IntegerOperation(
            name=str(entry["name"]),
            op=entry["op"],
            inputs=tuple(entry["inputs"]),
            scale=float(entry["scale"]),
            low=low,
            high=entry["high"],
            rescale=rescale,
            layer=layer,
            table=table,
            table_start=int(start),
            arguments=entry["arguments"],
        )

    def _layer(self, entry: dict[str, Any]) -> IntegerLayer:
        parts = []
        for bits, shape in entry["parts"]:
            if bits not in {2, 4, 8}:
                raise ValueError(f"weights of {bits} bits")
            n_bytes = -(-int(np.prod(shape)) * bits // 8)
            parts.append(SubLayer(bits, unpack_bits(self._take(n_bytes), bits, tuple(shape))))
        n_filters = sum(len(part.weight) for part in parts)
        bias = self._array(n_filters, np.int32, torch.int32)
        order = None
        if entry["reordered"]:
            places = unpack_bits(self._take(-(-n_filters * ORDER_BITS // 8)), ORDER_BITS, (n_filters,))
            order = (places % (1 << ORDER_BITS)).argsort(stable=True).argsort()
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry["shape"].items()
        }
        return IntegerLayer(LayerShape(**given), tuple(parts), bias, order)

    def _array(self, n: int, stored: type[np.generic], target: torch.dtype) -> Tensor:
        dtype = np.dtype(stored).newbyteorder("<")
        values = np.frombuffer(self._take(n * dtype.itemsize), dtype=dtype)
        return torch.tensor(values.astype(np.int64)).to(target)

    def _take(self, n_bytes: int) -> bytes:
        found = self._data[self._position : self._position + n_bytes]
        if len(found) < n_bytes:
            raise ValueError("the file ends too early")
        self._position += n_bytes
        return found
