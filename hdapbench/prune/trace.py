"""Model -> channel groups, from the labels of one forward pass, and each verified by really pruning it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.axes.follow import LabelMode
from hdapbench.axes.labels import Attention, AxisLabels
from hdapbench.axes.rules import UNEQUAL
from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, FrozenGroup, GroupSet
from hdapbench.prune.blocks import find_blocks
from hdapbench.prune.candidates import Candidates, candidates_of
from hdapbench.prune.surgery import main_outputs
from hdapbench.prune.verify import verify_groups

PROBE_SEED = 20_250
SEARCH_SECONDS = 180.0
"""Processor time after which the search for groups is given up."""

Choices = dict[int, int]
"""Number of a reshape that splits channels -> the way in which it is cut; the first where absent."""


def find_groups(model: nn.Module, input_shape: tuple[int, int, int], *, attention: Attention = "heads") -> GroupSet:
    """Channel groups of a model, in order of execution; groups that cannot be pruned are frozen, with a reason.

    One forward pass tells which channels meet (`hdapbench.axes`). A group passes when removing a random half of its
    channels leaves the output shape as it is and the compact model equal to the masked one. ``model`` is not changed.
    Residual blocks that can be removed are found with them.

    Parameters
    ----------
    input_shape
        Channels, height and width of one input.
    attention
        What attention loses: whole heads, or as many channels of every head; the other where one cannot be cut.

    Raises
    ------
    ModelError
        When the model cannot be traced, or no group can be pruned.
    """
    copy = deepcopy(model).float().cpu().eval()
    probe = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(PROBE_SEED))
    with _within(SEARCH_SECONDS, type(model).__name__):
        groups, frozen, again = _search(copy, probe, {}, attention)
        if again:  # attention whose heads cannot be cut may lose width in every head, and the other way round
            others = _search(copy, probe, again, attention)
            groups, frozen, _ = max((groups, frozen, again), others, key=lambda found: _n_channels(found[0]))
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in frozen[:3])
        raise ModelError(f"no channel group of {type(model).__name__} can be pruned ({reasons or 'no layer found'})")
    return GroupSet(tuple(groups), tuple(frozen), find_blocks(copy, groups, probe))


def _search(
    model: nn.Module, probe: Tensor, choices: Choices, attention: Attention
) -> tuple[list[ChannelGroup], list[FrozenGroup], Choices]:
    """Groups that pass, frozen ones, and other choices that are worth a trial for the sake of the frozen ones."""
    found = _candidates(model, probe, AxisLabels.fresh(model, choices, attention=attention))
    groups, rejected = verify_groups(model, found.by_risk(found.groups), probe)
    plain = [group for group in map(found.without_sizes, rejected) if group is not None]
    if plain:  # numbers in the code were taken for the sizes of these groups, and are none
        groups, _ = verify_groups(model, found.by_risk([*groups, *plain]), probe)
        names = {group.name for group in groups}
        rejected = [group for group in rejected if group.name not in names]
    groups.sort(key=lambda group: found.position(group.name))
    frozen = [*found.frozen, *rejected]
    unequal = [group for group in found.frozen if UNEQUAL in group.reason]
    return groups, frozen, {} if choices else found.other_choices([*rejected, *unequal])


def _candidates(model: nn.Module, probe: Tensor, labels: AxisLabels) -> Candidates:
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: order.setdefault(name))
        for name, module in model.named_modules()
    ]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one operation holds a whole encoder layer
    try:
        with torch.no_grad(), labels.following(), LabelMode(labels):
            outputs = main_outputs(model(probe[:1]))
    except Exception as error:  # whatever the network raises: it does not run on its own input
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"{type(model).__name__} cannot be traced: {text}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
    for output in outputs:
        for axis in labels.of(output):
            labels.freeze(axis, "is the model's output: no layer consumes its channels")
    return candidates_of(model, labels, list(order))


def _n_channels(groups: list[ChannelGroup]) -> int:
    """Filters that can be removed: what tells which of two sets of groups leaves more to prune."""
    return sum(len(member.indices) for group in groups for member in group.members if member.side == "out")


class _TimeIsUp(BaseException):
    """The search for groups took too long."""


@contextmanager
def _within(seconds: float, name: str) -> Iterator[None]:
    """Give the search for groups up after so much processor time; in the main thread only.

    Raises
    ------
    ModelError
        When the time is up.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: Any) -> None:
        raise _TimeIsUp

    handler = signal.signal(signal.SIGVTALRM, ring)
    timer = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _TimeIsUp:
        raise ModelError(
            f"the channel groups of {name} were not found within {seconds:g} s of processor time"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *timer)
        signal.signal(signal.SIGVTALRM, handler)
