"""What one node of a torch.fx trace means for a quantised network, or why it has no integer counterpart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from hdapbench.quant.graph.graph import Op

ADDITIONS = {"add", "iadd"}
PRODUCTS = {"mul", "imul"}


@dataclass(frozen=True)
class Meaning:
    """An operation, not yet placed in a graph; ``op`` None passes its input on.

    Attributes
    ----------
    inputs
        Nodes that it reads.
    flatten
        Whether the result is flattened to one value per channel.
    """

    op: Op | None
    inputs: tuple[fx.Node, ...]
    cap: float | None = None
    function: Callable[[Tensor], Tensor] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    flatten: bool = False


ModuleRule = Callable[[Any, fx.Node, fx.Node], Meaning | None]
CallRule = Callable[[fx.Node, fx.Node], Meaning | None]


def recognise(node: fx.Node, modules: Mapping[str, nn.Module]) -> Meaning | str:
    """Meaning of a node, or the reason why it has none ("(call_function chunk) has no integer counterpart")."""
    if node.op == "placeholder":
        return Meaning("input", ()) if node.prev.op == "root" else "is a second input"
    sources = node.all_input_nodes
    meaning, what = None, f"({node.op} {node.target})"
    if node.op == "call_module":
        module = modules[str(node.target)]
        what = f"(module '{node.target}', {type(module).__name__})"
        meaning = _of_module(module, sources[0], node) if len(sources) == 1 else None
    elif node.op in {"call_function", "call_method"}:
        name = str(getattr(node.target, "__name__", node.target))
        what = f"({node.op.removeprefix('call_')} {name})"
        bare = name.removesuffix("_")
        if bare in ADDITIONS | PRODUCTS:
            meaning = _binary("add" if bare in ADDITIONS else "mul", node)
        elif bare in {"cat", "concat"}:
            meaning = _concatenation(node)
        elif sources:
            meaning = _of_call(bare, sources[0], node)
    return f"{what} has no integer counterpart" if meaning is None else meaning


def _of_module(module: nn.Module, source: fx.Node, node: fx.Node) -> Meaning | None:
    rule = next((rule for types, rule in _MODULE_RULES if isinstance(module, types)), None)
    return rule(module, source, node) if rule else None


def _of_call(name: str, source: fx.Node, node: fx.Node) -> Meaning | None:
    """Meaning of a function or method with one tensor; in-place variants mean the same."""
    rule = _CALL_RULES.get(name.removesuffix("_"))
    return rule(source, node) if rule else None


def _convolution(module: Any, source: fx.Node, _: fx.Node) -> Meaning | None:
    return Meaning("layer", (source,)) if module.padding_mode == "zeros" else None


def _linear(_: nn.Module, source: fx.Node, node: fx.Node) -> Meaning | None:
    return Meaning("layer", (source,)) if len(_shape(node)) == 1 else None  # one vector per image, no tokens


def _clipped(module: Any, source: fx.Node, node: fx.Node) -> Meaning:
    if module.min_val == 0:
        return Meaning("relu", (source,), cap=float(module.max_val))
    return _pointwise_module(module, source, node)


def _pointwise_module(module: nn.Module, source: fx.Node, _: fx.Node) -> Meaning:
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment] # its input may be needed again
    return Meaning("function", (source,), function=module)


def _pointwise(name: str) -> CallRule:
    def rule(source: fx.Node, node: fx.Node) -> Meaning | None:
        named = {key: value for key, value in node.kwargs.items() if key not in {"input", "inplace"}}
        placed = node.args[1:]
        if any(isinstance(value, fx.Node) for value in (*placed, *named.values())):
            return None
        function = getattr(torch, name, None) or getattr(functional, name)
        return Meaning("function", (source,), function=partial(_applied, function, placed, named))

    return rule


def _applied(function: Callable[..., Tensor], placed: Sequence[Any], named: Mapping[str, Any], value: Tensor) -> Tensor:
    return function(value, *placed, **named)


def _max_pool(source: fx.Node, node: fx.Node) -> Meaning:
    return Meaning("max_pool", (source,), arguments=_named(node, ("input", *_MAX_POOL)))


def _max_pool_module(module: nn.Module, source: fx.Node, _: fx.Node) -> Meaning | None:
    given = {name: getattr(module, name) for name in _MAX_POOL}
    return None if getattr(module, "return_indices", False) else Meaning("max_pool", (source,), arguments=given)


def _average_pool(source: fx.Node, node: fx.Node) -> Meaning | None:
    return _average(source, _named(node, ("input", *_AVG_POOL)))


def _average_pool_module(module: nn.Module, source: fx.Node, _: fx.Node) -> Meaning | None:
    return _average(source, {name: getattr(module, name) for name in _AVG_POOL})


def _average(source: fx.Node, given: Mapping[str, Any]) -> Meaning | None:
    """Average over windows that all have the same number of values."""
    padded = given.get("padding", 0) not in {0, (0, 0)}
    if given.get("ceil_mode") or given.get("divisor_override") or (padded and not given.get("count_include_pad", True)):
        return None
    kept = {name: given[name] for name in ("kernel_size", "stride", "padding") if given.get(name) is not None}
    return Meaning("avg_pool", (source,), arguments=kept)


def _adaptive_average(source: fx.Node, node: fx.Node) -> Meaning | None:
    shape_in, shape_out = _shape(source), _shape(node)
    if shape_in == shape_out:
        return Meaning(None, (source,))
    if shape_in[1] % shape_out[1] or shape_in[2] % shape_out[2]:
        return None  # windows of unequal size
    return Meaning(
        "avg_pool", (source,), arguments={"kernel_size": (shape_in[1] // shape_out[1], shape_in[2] // shape_out[2])}
    )


def _mean(source: fx.Node, node: fx.Node) -> Meaning | None:
    """Mean over height and width."""
    shape_in, shape_out = _shape(source), _shape(node)
    over = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    spatial = isinstance(over, tuple | list) and {axis % 4 for axis in over if isinstance(axis, int)} == {2, 3}
    if len(shape_in) != 3 or not spatial:
        return None
    return Meaning("avg_pool", (source,), arguments={"kernel_size": shape_in[1:]}, flatten=len(shape_out) == 1)


def _flatten(source: fx.Node, node: fx.Node) -> Meaning | None:
    shape_in, shape_out = _shape(source), _shape(node)
    if shape_in == shape_out:
        return Meaning(None, (source,))
    return Meaning("flatten", (source,)) if shape_out == (math.prod(shape_in),) else None


def _dropout(source: fx.Node, node: fx.Node) -> Meaning:
    return Meaning("dropout", (source,), arguments={"p": node.kwargs.get("p", 0.5)})


def _concatenation(node: fx.Node) -> Meaning | None:
    parts = node.args[0]
    dimension = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if dimension != 1 or not isinstance(parts, tuple | list):
        return None
    return Meaning("concat", tuple(part for part in parts if isinstance(part, fx.Node)))


def _binary(op: Op, node: fx.Node) -> Meaning | None:
    """Sum or product of two tensors; a product may broadcast one value per channel."""
    operands = tuple(argument for argument in node.args if isinstance(argument, fx.Node))
    if len(operands) != 2 or len(node.args) != 2 or node.kwargs:
        return None
    shapes = [_shape(operand) for operand in operands]
    gate = op == "mul" and all(shape[:1] == _shape(node)[:1] for shape in shapes)
    return Meaning(op, operands) if shapes[0] == shapes[1] or gate else None


def _named(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """Positional and keyword arguments by name, without the input."""
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return {name: value for name, value in given.items() if name in names and name != "input"}


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["tensor_meta"].shape[1:])


_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_POINTWISE = (
    *("silu", "hardswish", "hardsigmoid", "sigmoid", "gelu", "leaky_relu", "elu", "tanh", "softplus", "mish", "selu"),
    *("celu", "softsign", "hardtanh", "clamp", "clip"),
)
_POINTWISE_MODULES = (
    *(nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.GELU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Softplus, nn.Mish),
    *(nn.SELU, nn.CELU, nn.Softsign),
)

_MODULE_RULES: tuple[tuple[Any, ModuleRule], ...] = (
    (nn.Conv2d, _convolution),
    (nn.Linear, _linear),
    (nn.ReLU, lambda _, source, __: Meaning("relu", (source,))),
    (nn.Hardtanh, _clipped),  # ReLU6 is one
    (_POINTWISE_MODULES, _pointwise_module),
    (nn.MaxPool2d, _max_pool_module),
    (nn.AvgPool2d, _average_pool_module),
    (nn.AdaptiveAvgPool2d, lambda _, source, node: _adaptive_average(source, node)),
    (nn.Flatten, lambda _, source, node: _flatten(source, node)),
    (nn.Dropout, lambda module, source, _: Meaning("dropout", (source,), arguments={"p": module.p})),
    ((nn.Identity, nn.Dropout2d), lambda _, source, __: Meaning(None, (source,))),
)

_CALL_RULES: Mapping[str, CallRule] = {
    "relu": lambda source, _: Meaning("relu", (source,)),
    "relu6": lambda source, _: Meaning("relu", (source,), cap=6.0),
    **{name: _pointwise(name) for name in _POINTWISE},
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average,
    "mean": _mean,
    "flatten": _flatten,
    "view": _flatten,
    "reshape": _flatten,
    "dropout": _dropout,
    "contiguous": lambda source, _: Meaning(None, (source,)),
    # Dropping whole branches is left out, as in evaluation.
    "stochastic_depth": lambda source, _: Meaning(None, (source,)),
}
