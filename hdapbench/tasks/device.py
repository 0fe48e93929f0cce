"""Devices that networks are trained and evaluated on. Torch only where a GPU is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hdapbench.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

AUTO, CPU, CUDA = "auto", "cpu", "cuda"


def usable_devices() -> tuple[str, ...]:
    """Names that ``device`` can take here: ``cpu``, and ``cuda:0``, ``cuda:1`` and so on, one for each GPU."""
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return (CPU, *(f"{CUDA}:{number}" for number in range(n_gpus)))


def resolved(device: str) -> str:
    """The device, or what ``auto`` stands for here: ``cuda`` where there is a GPU, ``cpu`` elsewhere."""
    if device != AUTO:
        return device
    return CUDA if len(usable_devices()) > 1 else CPU


def kind_of(device: str) -> str:
    """``cpu`` or ``cuda``: what numbers depend on, and the ids of trials name; which of several GPUs does not count."""
    return resolved(device).partition(":")[0]


def lack_of(device: str) -> str | None:
    """What is wrong with a device here, with the fix; None where this machine has it."""
    kind, _, number = resolved(device).partition(":")
    if kind != CUDA:
        return None
    usable = usable_devices()
    if len(usable) == 1:
        return "torch finds no GPU here; write device: cpu, or auto"
    if f"{CUDA}:{int(number or 0)}" not in usable:
        return f"torch finds no {device} here, but {', '.join(usable[1:])}; write one of these, or auto"
    return None


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises
    ------
    ModelError
        When torch finds no GPU, or none of that number.
    """
    lack = lack_of(device)
    if lack is not None:
        raise ModelError(f"device: {device}: {lack}")


@contextmanager
def on_device(model: nn.Module, device: str) -> Iterator[None]:
    """The model on a device, and afterwards back where it was.

    Raises
    ------
    ModelError
        When this machine has no such device.
    """
    import torch

    check_device(device)
    before = next((parameter.device for parameter in model.parameters()), torch.device(CPU))
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


@contextmanager
def kept_random_state(device: str) -> Iterator[None]:
    """Whatever random numbers are drawn on the CPU or the device, torch's global state is afterwards as before."""
    import torch

    of = torch.device(device)
    numbers = [torch.cuda.current_device() if of.index is None else of.index] if of.type == CUDA else []
    with torch.random.fork_rng(devices=numbers):
        yield
