"""Memory: what generated code keeps in flash and RAM, as a function of the channels that are left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hdapbench.cost.arena import ALIGNMENT, Block, Buffers, place
from hdapbench.cost.code_size import STACK_BYTES

SCRATCH_MARGIN = 6
"""Weights beside a filter that are unpacked with it: up to three before and three behind."""

RUN_BYTES, LAYER_BYTES = 2, 56
"""Of a run of filters of one bit-width, and of what a layer's call reads besides its arrays."""


@dataclass(frozen=True)
class Memory:
    """Values of a network, with their channels as functions of the selectors.

    Attributes
    ----------
    buffers
        Which values share memory, and when.
    channels : Tensor, shape (n_steps, n_selectors)
        Channels of each operation's output per kept channel of the selector.
    constant, area, width : Tensor, shape (n_steps,)
        Channels that never go away, height times width, and bytes of a value.
    layer_steps
        Step of each layer.
    packed_by_filter : Tensor of bool, shape (n_layers,)
        Linear layers, each of whose filters begins with a byte of its own.
    fixed_bytes
        Flash of what does not depend on channels: code, and constants of operations without weights.
    """

    buffers: Buffers
    channels: Tensor
    constant: Tensor
    area: Tensor
    width: Tensor
    layer_steps: tuple[int, ...]
    packed_by_filter: Tensor
    fixed_bytes: int

    def value_bytes(self, kept: Tensor) -> Tensor:
        """Bytes of each operation's output, shape (n_steps,).

        Parameters
        ----------
        kept : Tensor, shape (n_selectors,)
            Channels of each selector that are left; fractions where choices are soft.
        """
        return (self.channels @ kept + self.constant) * self.area * self.width

    def outside_bytes(self, values: Tensor) -> Tensor:
        """Bytes of the input and the output, which the caller holds."""
        return values[0] + values[-1]

    def buffer_bytes(self, values: Tensor) -> dict[str, Tensor]:
        """Bytes of each buffer."""
        found: dict[str, Tensor] = {}
        for number, step in enumerate(self.buffers.steps):
            name = self.buffers.of_value[step.name]
            found[name] = torch.maximum(found[name], values[number]) if name in found else values[number]
        return found

    def ram(self, kept: Tensor, scratch: Tensor) -> int:
        """Peak of all that is written, exact for whole numbers of channels.

        Parameters
        ----------
        scratch : Tensor, shape (n_layers,)
            Bytes that each layer's filters are unpacked in.
        """
        values, buffers = self.value_bytes(kept), self.buffers
        n_bytes = {name: round(float(size)) for name, size in self.buffer_bytes(values).items()}
        blocks = [Block(name, n_bytes[name], buffers.first[name], buffers.last[name]) for name in buffers.in_arena]
        blocks += [
            Block(f"{step}/scratch", round(size), step, step)
            for step, size in zip(self.layer_steps, scratch.tolist(), strict=True)
            if size
        ]
        wide = any(step.width > 1 and buffers.of_value[step.name] in buffers.in_arena for step in buffers.steps)
        arena = max(place(blocks, ALIGNMENT if wide else 1)[1], 1)
        return arena + round(float(self.outside_bytes(values))) + STACK_BYTES

    def live_bytes(self, kept: Tensor, scratch: Tensor) -> Tensor:
        """Bytes in use at each step, shape (n_steps,); differentiable."""
        values = self.value_bytes(kept)
        sizes = self.buffer_bytes(values)
        inside = torch.stack([sizes[name] for name in self.buffers.in_arena] or [values.new_zeros(())])
        live = torch.as_tensor(self.buffers.live(), dtype=values.dtype)
        live = live if live.shape[1] else values.new_zeros(len(values), 1)
        by_step = values.new_zeros(len(values)).index_add(0, torch.tensor(self.layer_steps), scratch)
        return live @ inside + by_step + self.outside_bytes(values) + STACK_BYTES
