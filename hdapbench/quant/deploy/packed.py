"""Packed files: an IntegerModel on disk, with 2- and 4-bit weights really packed.

Layout: the magic ``HDPQ``, a version and the length of the header (two little-endian 32-bit numbers), the header (JSON,
deflated), and the tensors one after another. Everything is data: reading a file executes nothing.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdapbench.errors import PlanError
from hdapbench.files import replacing
from hdapbench.quant.deploy.integer import IntegerLayer, IntegerModel, IntegerOperation, Rescale, SubLayer
from hdapbench.quant.graph.walk import LayerShape

PACKED = "model.hdpq"
"""Name of a packed model among a trial's artifacts."""

MAGIC = b"HDPQ"
VERSION = 1
PREAMBLE = struct.Struct("<4sII")
MOST_HEADER_BYTES = 1 << 26


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
    return PREAMBLE.pack(MAGIC, VERSION, len(text)) + text + b"".join(writer.blobs)


def save_packed(model: IntegerModel, path: Path) -> int:
    """Write a model, whole or not at all; the number of bytes."""
    with replacing(path) as partial:
        return partial.write_bytes(packed_bytes(model))


def load_packed(path: Path) -> IntegerModel:
    """Model of a packed file.

    Raises
    ------
    PlanError
        When the file is absent, damaged, or written by a newer version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"'{path}' cannot be read: {error.strerror}") from None
    if len(content) < PREAMBLE.size or content[:4] != MAGIC:
        raise PlanError(f"'{path}' is not a packed model")
    _, version, length = PREAMBLE.unpack_from(content)
    if version > VERSION:
        raise PlanError(f"'{path}' was written by a newer hdapbench (format {version}, this one reads {VERSION})")
    start = PREAMBLE.size + length
    try:
        inflate = zlib.decompressobj()
        header = json.loads(inflate.decompress(content[PREAMBLE.size : start], MOST_HEADER_BYTES))
        reader = _Reader(content[start:])
        operations = tuple(reader.operation(entry) for entry in header["operations"])
        model = IntegerModel(operations, tuple(header["input_shape"]))
    except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise PlanError(f"'{path}' is damaged: {' '.join(str(error).split())[:120]}") from error
    if reader.position != len(content) - start:
        raise PlanError(f"'{path}' is damaged: {len(content) - start - reader.position} bytes too many")
    return model


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
            self._array(operation.table, np.int16)
        return entry

    def _layer(self, layer: IntegerLayer) -> dict[str, Any]:
        for part in layer.parts:
            self.blobs.append(pack_bits(part.weight, part.bits))
        self._array(layer.bias, np.int32)
        self._array(layer.scale, np.float32)
        if layer.order is not None:
            self._array(layer.order, np.uint32)
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
        self._data, self.position = data, 0

    def operation(self, entry: dict[str, Any]) -> IntegerOperation:
        rescale = tuple(
            Rescale(self._array(n, np.uint32, torch.int64), self._array(n, np.uint8, torch.int64))
            for n in entry["rescale"]
        )
        layer = self._layer(entry["layer"]) if "layer" in entry else None
        start, n_entries = entry.get("table", (0, 0))
        table = self._array(n_entries, np.int16, torch.int16) if n_entries else None
        return IntegerOperation(
            name=str(entry["name"]),
            op=entry["op"],
            inputs=tuple(entry["inputs"]),
            scale=float(entry["scale"]),
            low=entry["low"],
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
        scale = self._array(n_filters, np.float32, torch.float64)
        order = self._array(n_filters, np.uint32, torch.int64) if entry["reordered"] else None
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry["shape"].items()
        }
        return IntegerLayer(LayerShape(**given), tuple(parts), bias, scale, order)

    def _array(self, n: int, stored: type[np.generic], target: torch.dtype) -> Tensor:
        dtype = np.dtype(stored).newbyteorder("<")
        values = np.frombuffer(self._take(n * dtype.itemsize), dtype=dtype)
        return torch.tensor(values.astype(np.float64 if target == torch.float64 else np.int64)).to(target)

    def _take(self, n_bytes: int) -> bytes:
        found = self._data[self.position : self.position + n_bytes]
        if len(found) < n_bytes:
            raise ValueError("the file ends too early")
        self.position += n_bytes
        return found
