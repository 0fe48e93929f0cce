"""One call per operation of an IntegerModel, with the constants that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from hdapbench.cost.code_size import POINTWISE_BYTES, POOL_BYTES
from hdapbench.cost.memory import LAYER_BYTES
from hdapbench.errors import UnknownLayerError
from hdapbench.quant.deploy.c99.constants import Constant, layer_constants
from hdapbench.quant.deploy.c99.kernels import Kernel
from hdapbench.quant.deploy.c99.shapes import Window, layer_window
from hdapbench.quant.deploy.c99.values import MOST_SIDE, Value, Values
from hdapbench.quant.deploy.execute import pooling_window
from hdapbench.quant.deploy.integer import IntegerOperation

STRUCT_BYTES = {"layer": LAYER_BYTES, "pool": POOL_BYTES, "pointwise": POINTWISE_BYTES}
"""Bytes of each structure where pointers have 32 bits."""

MOST_WINDOW = 255
"""Kernels, strides, dilations and paddings of convolutions are 8 bits wide in generated code."""


@dataclass(frozen=True)
class Record:
    """A constant structure: what one call reads besides its arrays."""

    kind: str
    name: str
    fields: Mapping[str, int | str]

    @property
    def n_bytes(self) -> int:
        """Bytes in flash."""
        return STRUCT_BYTES[self.kind]

    def __str__(self) -> str:
        fields = ", ".join(f".{key} = {value}" for key, value in self.fields.items())
        return f"static const struct {self.kind} {self.name} = {{{fields}}};\n"


@dataclass(frozen=True)
class Call:
    """A call of a kernel.

    Attributes
    ----------
    operation
        Name of the operation.
    kernel
        What is called.
    arguments
        C expressions.
    constants
        What they refer to.
    """

    operation: str
    kernel: Kernel
    arguments: tuple[str, ...]
    constants: tuple[Constant | Record, ...]

    def __str__(self) -> str:
        return f"{self.kernel.name}({', '.join(self.arguments)});"


def calls(values: Values) -> list[Call]:
    """Calls of a model in order of execution."""
    found: list[Call] = []
    for number, operation in enumerate(values.model.operations):
        if operation.op != "input" and not values.stays(operation.name):
            found += _RULES[operation.op](_Place(values, operation, number))
    return found


@dataclass(frozen=True)
class _Place:
    """An operation with what is known about its values."""

    values: Values
    operation: IntegerOperation
    number: int

    @property
    def inputs(self) -> list[Value]:
        return [self.values.by_name[name] for name in self.operation.inputs]

    @property
    def output(self) -> Value:
        return self.values.by_name[self.operation.name]

    @property
    def sources(self) -> tuple[str, ...]:
        """Pointers to the inputs."""
        return tuple(self.pointer(name) for name in self.operation.inputs)

    def pointer(self, name: str, offset: int = 0) -> str:
        """Pointer to a value."""
        buffers, c_type = self.values.buffers, self.values.by_name[name].c_type
        buffer = buffers.of_value[name]
        end = f" + {offset}" if offset else ""
        if buffer == buffers.input:
            return f"in{end}"
        if buffer == buffers.output:
            outer = self.values.by_name[self.values.model.operations[-1].name].c_type
            return f"out{end}" if c_type == outer else f"({c_type} *)out{end}"
        start = self.values.placed[0][buffer]
        if self.values.arena_is_wide:
            return f"arena + {start // 8 + offset}" if c_type == "int64_t" else f"({c_type} *)arena + {start + offset}"
        return f"arena + {start + offset}" if c_type == "uint8_t" else f"({c_type} *)arena + {start + offset}"

    def kernel(self, kind: str, n_inputs: int = 1, *, offset: bool = False) -> Kernel:
        return Kernel(kind, tuple(value.c_type for value in self.inputs[:n_inputs]), self.output.c_type, offset)

    def bounds(self) -> dict[str, int]:
        """What outputs are cut at, and their offset."""
        if self.output.wide:
            if self.operation.high is not None and self.operation.rescale:
                raise UnknownLayerError(f"'{self.operation.name}': a grid of more than 8 bits has no C code")
            return {"zero_out": 0, "low": 0 if self.operation.low == 0 else -1, "high": 0}
        return {"zero_out": self.output.zero, "low": self.output.low, "high": self.output.high}


def _layer(place: _Place) -> list[Call]:
    operation, source, output, number = place.operation, place.inputs[0], place.output, place.number
    layer = operation.layer
    assert layer is not None  # noqa: S101 - every layer operation has one
    arrays = layer_constants(operation, source, number)
    fields: dict[str, int | str] = {
        key: constant.name
        for key, constant in zip(("weights", "runs", "bias", "multiplier", "shift"), arrays, strict=True)
    }
    fields |= {"c_in": source.shape[0], "c_out": output.shape[0], "zero_in": source.zero} | place.bounds()
    is_conv = layer.shape.stride is not None
    if is_conv:
        weight = layer.parts[0].weight
        fields |= _map_fields(source, output) | {"group_in": weight.shape[1]}
        fields |= {"group_out": output.shape[0] // layer.shape.groups} | _window_fields(layer_window(operation))
    sides = [value for key, value in fields.items() if key in {"c_out", "group_in"} and isinstance(value, int)]
    window = [value for key, value in fields.items() if key[:2] in {"k_", "s_", "d_", "p_"} and isinstance(value, int)]
    if max(sides) > MOST_SIDE or max(window, default=0) > MOST_WINDOW:
        raise UnknownLayerError(
            f"'{operation.name}': more than {MOST_SIDE:,} channels or a window beyond {MOST_WINDOW} has no C code"
        )
    record = Record("layer", f"layer_{number}", fields)
    kernel = place.kernel("conv" if is_conv else "linear", offset=source.zero != 0)
    arguments = [f"&{record.name}", *place.sources, place.pointer(operation.name)]
    if is_conv:
        arguments.append(_scratch(place))
    return [Call(operation.name, kernel, tuple(arguments), (*arrays, record))]


def _scratch(place: _Place) -> str:
    start = place.values.placed[0].get(f"{place.operation.name}/scratch")
    return "(int8_t *)0" if start is None else f"(int8_t *)arena + {start}"


def _map_fields(source: Value, output: Value) -> dict[str, int]:
    return {"h_in": source.shape[1], "w_in": source.shape[2], "h_out": output.shape[1], "w_out": output.shape[2]}


def _window_fields(window: Window) -> dict[str, int]:
    pairs = {"k": window.kernel, "s": window.stride, "d": window.dilation, "p": window.before}
    return {f"{key}_{axis}": pair[place] for key, pair in pairs.items() for place, axis in enumerate("hw")}


def _pool(place: _Place) -> list[Call]:
    operation, source, output = place.operation, place.inputs[0], place.output
    kernel, stride, dilation, padding = pooling_window(operation)
    fields = {"c": source.shape[0], "zero_in": source.zero} | place.bounds() | _map_fields(source, output)
    fields |= _window_fields(Window(kernel, stride, dilation, padding, padding))
    if operation.rescale:
        fields |= {"multiplier": int(operation.rescale[0].multiplier), "shift": int(operation.rescale[0].shift)}
    record = Record("pool", f"pool_{place.number}", fields)
    arguments = (f"&{record.name}", *place.sources, place.pointer(operation.name))
    return [Call(operation.name, place.kernel(operation.op), arguments, (record,))]


def _pointwise(place: _Place) -> list[Call]:
    """Sums, products, and ReLUs on a grid of their own or that only cut."""
    operation, inputs, output = place.operation, place.inputs, place.output
    kind = operation.op if operation.op != "relu" else "rescale" if operation.rescale else "move"
    whole = all(value.shape == output.shape for value in inputs)
    n = output.n if whole else output.shape[0]
    fields = {"n_pixels": output.n // n, "n": n, "step": n, "first_zero": inputs[0].zero} | place.bounds()
    fields["first_step"] = n if inputs[0].shape == output.shape else 0
    if len(inputs) > 1:
        fields |= {"second_step": n if inputs[1].shape == output.shape else 0, "second_zero": inputs[1].zero}
    for key, rescale in zip(("first", "second"), operation.rescale, strict=False):
        fields |= {key: int(rescale.multiplier), "shift": int(rescale.shift)}
    record = Record("pointwise", f"pointwise_{place.number}", fields)
    arguments = (f"&{record.name}", *place.sources, place.pointer(operation.name))
    return [Call(operation.name, place.kernel(kind, len(inputs)), arguments, (record,))]


def _concat(place: _Place) -> list[Call]:
    found, start, output = [], 0, place.output
    for part, (name, value) in enumerate(zip(place.operation.inputs, place.inputs, strict=True)):
        n = value.shape[0]
        bounds = place.bounds() if not output.wide else {"zero_out": 0, "low": -1, "high": 0}
        fields = {"n_pixels": value.area, "n": n, "first_step": n, "step": output.shape[0], "first_zero": value.zero}
        record = Record("pointwise", f"pointwise_{place.number}_{part}", fields | bounds)
        kernel = Kernel("move", (value.c_type,), output.c_type)
        arguments = (f"&{record.name}", place.pointer(name), place.pointer(place.operation.name, start))
        found.append(Call(place.operation.name, kernel, arguments, (record,)))
        start += n
    return found


def _table(place: _Place) -> list[Call]:
    operation, source, output = place.operation, place.inputs[0], place.output
    assert operation.table is not None  # noqa: S101 - every function operation has one
    table = Constant(f"table_{place.number}", output.c_type, (operation.table.long() + output.zero).tolist())
    start = str(operation.table_start + source.zero)
    arguments = (table.name, start, f"{output.n}u", *place.sources, place.pointer(operation.name))
    return [Call(operation.name, place.kernel("table"), arguments, (table,))]


def _take(place: _Place) -> list[Call]:
    source, output = place.inputs[0], place.output
    channels = Constant(f"channels_{place.number}", "uint16_t", place.operation.arguments["channels"])
    sizes = (f"{source.area}u", f"{output.shape[0]}u", f"{source.shape[0]}u", str(output.zero - source.zero))
    arguments = (channels.name, *sizes, *place.sources, place.pointer(place.operation.name))
    return [Call(place.operation.name, place.kernel("take"), arguments, (channels,))]


def _flatten(place: _Place) -> list[Call]:
    source, output = place.inputs[0], place.output
    n = source.shape[0]
    move = str(output.zero - source.zero)
    arguments = (f"{prod(source.shape) // n}u", f"{n}u", move, *place.sources, place.pointer(place.operation.name))
    return [Call(place.operation.name, place.kernel("reorder"), arguments, ())]


_RULES: Mapping[str, Callable[[_Place], Sequence[Call]]] = {
    "layer": _layer,
    "max_pool": _pool,
    "avg_pool": _pool,
    "add": _pointwise,
    "mul": _pointwise,
    "relu": _pointwise,
    "concat": _concat,
    "function": _table,
    "flatten": _flatten,
    "take": _take,
}
