"""A device that is not there: tensors that say they lie on a GPU, are kept on this host, and meet only their like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)


class Elsewhere(Tensor):
    """A tensor of that device."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, inside.shape, dtype=inside.dtype, device="meta", strides=inside.stride()
        )
        made.inside = inside.detach()
        return made

    @property
    def device(self) -> torch.device:
        """What code that asks is told; torch itself is told of a device without guards and streams."""
        return DEVICE

    def __repr__(self, *_: Any) -> str:
        return f"Elsewhere({self.inside})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.ops.aten.copy_.default:
            _refuse_strangers(func, (args, kwargs))
        found = func(*tree_map(_inside, args), **tree_map(_inside, {k: v for k, v in kwargs.items() if k != "device"}))
        if func.__name__.split(".")[0].endswith("_"):  # in place
            return args[0]
        return tree_map(_outside, found)


def _refuse_strangers(func: Any, given: Any) -> None:
    """Single numbers may come from this host, as they may to a GPU."""
    if any(isinstance(v, Tensor) and not isinstance(v, Elsewhere) and v.dim() for v in tree_flatten(given)[0]):
        raise RuntimeError(f"{func}: tensors of two devices meet")


class ThatDevice(TorchFunctionMode):
    """Puts what is made for that device, or brought there, into `Elsewhere`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, Elsewhere) and func in _METHODS:
            return _METHODS[func](*args, **kwargs)
        if func is Tensor.to and _asked(args[1:], kwargs) is not None:
            return _moved(first, _asked(args[1:], kwargs))
        if _asked(args[1:], kwargs) is True:  # made there
            return tree_map(_outside, func(*args, **{k: v for k, v in kwargs.items() if k != "device"}))
        return func(*args, **kwargs)


def _asked(args: Any, kwargs: Any) -> bool | None:
    """Whether a device that is named is that one; None where none is."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Elsewhere):
            return True
        if isinstance(value, torch.device) or (isinstance(value, str) and value in ("cpu", "cuda")):
            return torch.device(value).type == DEVICE.type
    return None


def _moved(value: Tensor, there: Any) -> Any:
    if isinstance(value, Elsewhere) == there:
        return value
    return _Bring.apply(value) if there else _Fetch.apply(value)


def _set_item(target: Elsewhere, key: Any, value: Any) -> None:
    _refuse_strangers("set", (key, value))
    target.inside[tree_map(_inside, key)] = _inside(value)


_METHODS: Mapping[Any, Callable[..., Any]] = {
    Tensor.tolist: lambda value: value.inside.tolist(),  # torch refuses subclasses
    Tensor.new_tensor: lambda value, *args, **kwargs: Elsewhere(value.inside.new_tensor(*args, **kwargs)),
    Tensor.__setitem__: _set_item,
    Tensor.cpu: lambda value: _moved(value, False),
}


class _Bring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return Elsewhere(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.inside


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.inside.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Elsewhere(gradient)


def _inside(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_meta and not isinstance(value, Elsewhere):
        return torch.zeros((), dtype=value.dtype)  # of torch's own backward formulas, which fill with zeros
    return value.inside if isinstance(value, Elsewhere) else value


def _outside(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, Tensor) and not isinstance(value, Elsewhere) else value
