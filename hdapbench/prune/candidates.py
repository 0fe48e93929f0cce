"""Labels of a forward pass -> candidate channel groups, and what is frozen at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from hdapbench.arrays import Integers
from hdapbench.axes.labels import AxisLabels
from hdapbench.axes.layers import CONVOLUTIONS, is_depthwise, n_channels, sides_of
from hdapbench.axes.reshape import Axis
from hdapbench.groups import ChannelGroup, FrozenGroup, GroupMember, ParameterMember, Side, SizeMember

_NONE: Integers = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Candidates:
    """Groups that labels suggest, and what cannot be pruned for a reason that the labels tell.

    Attributes
    ----------
    groups, frozen
        In order of execution.
    cuts
        Groups, by name, that lie on each reshape that splits channels, and in how many ways it can be cut.
    """

    groups: list[ChannelGroup]
    frozen: list[FrozenGroup]
    cuts: list[tuple[frozenset[str], int]]

    def position(self, name: str) -> int:
        """Place of a group in the order of execution."""
        return next(number for number, group in enumerate(self.groups) if group.name == name)

    def by_risk(self, groups: Iterable[ChannelGroup]) -> list[ChannelGroup]:
        """Groups with those last that lie on reshapes, whose code may hold a number: halving leaves others together."""
        risky = frozenset[str]().union(*(names for names, _ in self.cuts))
        return sorted(groups, key=lambda group: bool(group.name in risky or group.sizes))

    def without_sizes(self, rejected: FrozenGroup) -> ChannelGroup | None:
        """The rejected group without the attributes that were taken for its sizes; None where it had none."""
        group = self.groups[self.position(rejected.name)]
        return replace(group, sizes=()) if group.sizes else None

    def other_choices(self, frozen: Iterable[FrozenGroup]) -> dict[int, int]:
        """Every reshape that lies on a frozen group cut in its second way; empty where there is none."""
        names = {group.name for group in frozen}
        return {number: 1 for number, (groups, n_ways) in enumerate(self.cuts) if groups & names and n_ways > 1}


def candidates_of(model: nn.Module, labels: AxisLabels, order: Iterable[str]) -> Candidates:
    """Candidate groups: what the filters of one layer make, with all layers that make any of the same channels.

    Parameters
    ----------
    order
        Names of modules in the order of their first call.
    """
    return _Search(model, labels, order).run()


@dataclass(frozen=True)
class _Place:
    """Channels along one side of a layer, or along a dimension of a parameter that no known layer holds.

    Attributes
    ----------
    classes
        Class of labels of each channel, -1 where it has none.
    """

    name: str
    side: Side | None
    dimension: int | None
    classes: Integers


class _Search:
    """The classes of labels, and the groups that they form."""

    def __init__(self, model: nn.Module, labels: AxisLabels, order: Iterable[str]) -> None:
        self._modules = dict(model.named_modules())
        self._notes = labels.notes
        self._labels = labels
        self._position = {name: number for number, name in enumerate(order)}
        ties = labels.notes.ties
        self._classes = _components(
            labels.n_labels, *(np.concatenate([pair[i] for pair in ties] or [_NONE]) for i in (0, 1))
        )
        norms = {name: (axis, dimension) for name, axis, dimension in labels.notes.norms}
        self._places = [*self._layers(norms), *self._parameters(model)]
        self._frozen: dict[int, str] = {}
        for axis, reason in labels.notes.frozen:
            for found in np.unique(self._classes[axis]).tolist():
                self._frozen.setdefault(found, reason)
        self._consumed = set(self._of(np.concatenate(labels.notes.consumed or [_NONE])).tolist())

    def _of(self, axis: Axis) -> Integers:
        """Classes of labels, -1 where there is no label."""
        return _NONE if axis is None else np.where(axis >= 0, self._classes[axis], -1)

    def _layers(self, norms: Mapping[str, tuple[Integers, int]]) -> Iterator[_Place]:
        """Sides of known layers, in order of execution."""
        last = len(self._position)
        for name, module in sorted(self._modules.items(), key=lambda item: self._position.get(item[0], last)):
            if name in norms:
                axis, dimension = norms[name]
                yield _Place(name, "both", dimension, self._of(axis))
                continue
            found: dict[Side, Integers] = {}
            for side in sides_of(module):
                axes = self._labels.of(side.tensor)
                if side.side not in found and axes[side.dimension] is not None:
                    found[side.side] = np.tile(self._of(axes[side.dimension]), side.repeats)
            if is_depthwise(module) and "out" in found:
                found["in"] = found["out"][:: len(found["out"]) // n_channels(module, "in")]
            yield from (_Place(name, side, None, classes) for side, classes in found.items())

    def _parameters(self, model: nn.Module) -> Iterator[_Place]:
        """Dimensions of parameters and buffers that belong to no known layer."""
        known = {id(side.tensor) for module in self._modules.values() for side in sides_of(module)}
        named: list[tuple[str, Tensor]] = [*model.named_parameters(), *model.named_buffers()]
        for name, tensor in named:
            axes = () if id(tensor) in known else self._labels.of(tensor)
            yield from (
                _Place(name, None, number, self._of(axis)) for number, axis in enumerate(axes) if axis is not None
            )

    def run(self) -> Candidates:
        """Groups in order of execution of their first producer."""
        producers = [p for p in self._places if p.side == "out" and not is_depthwise(self._modules[p.name])]
        whole = self._wholes(producers)
        held: dict[int, list[tuple[_Place, Integers]]] = {}
        for place in self._places:
            own = np.where(place.classes >= 0, whole[place.classes], -1)
            for number in np.unique(own[own >= 0]).tolist():
                held.setdefault(number, []).append((place, np.flatnonzero(own == number)))
        roots: dict[int, str] = {}
        groups, frozen = [], []
        for place in producers:
            number = int(whole[place.classes[0]])
            if number in roots:
                continue
            roots[number] = place.name
            group, classes = self._group(place, held[number])
            reason = self._defect(group, classes)
            if reason is None:
                groups.append(group)
            else:
                frozen.append(FrozenGroup(place.name, len(place.classes), reason))
        singles = [
            FrozenGroup(name, 1, "has a single channel")
            for name in self._position
            if isinstance(module := self._modules[name], (*CONVOLUTIONS, nn.Linear)) and n_channels(module, "out") == 1
        ]
        frozen = sorted([*frozen, *singles], key=lambda group: self._position.get(group.name, len(self._position)))
        cuts = []
        for grid, n_ways in self._notes.choices:
            found = np.unique(whole[self._classes[grid[grid >= 0]]]).tolist()
            cuts.append((frozenset(roots[number] for number in found if number in roots), n_ways))
        return Candidates(groups, frozen, cuts)

    def _wholes(self, producers: list[_Place]) -> Integers:
        """Group of each class: classes that one layer produces belong together."""
        n_classes = int(self._classes.max(initial=-1)) + 1
        first = np.concatenate([np.repeat(place.classes[:1], len(place.classes)) for place in producers] or [_NONE])
        return _components(n_classes, first, np.concatenate([place.classes for place in producers] or [_NONE]))

    def _group(self, root: _Place, held: list[tuple[_Place, Integers]]) -> tuple[ChannelGroup, list[int]]:
        """Group of the places that hold some of its classes, and its classes, in the order of its channels."""
        channel: dict[int, int] = {}
        for found in (root.classes, *(place.classes[indices] for place, indices in held if place.side is not None)):
            for number in dict.fromkeys(found.tolist()):
                channel.setdefault(number, len(channel))
        members, parameters = [], []
        for place, indices in held:
            known = [index for index in indices.tolist() if int(place.classes[index]) in channel]
            channels = tuple(channel[int(place.classes[index])] for index in known)
            if not known:
                continue
            if place.side is not None:
                members.append(GroupMember(place.name, place.side, tuple(known), channels, place.dimension))
            else:
                parameters.append(ParameterMember(place.name, place.dimension or 0, tuple(known), channels))
        sizes: dict[tuple[str, str], SizeMember] = {}
        for module, attribute, axis in self._notes.numbers:
            classes = self._of(axis)
            if all(number in channel for number in classes.tolist()) and len(classes) % len(channel) == 0:
                sizes[module, attribute] = SizeMember(module, attribute, len(classes) // len(channel))
        # Scores of producers are added up in this order: rounding stays what it was with torch-pruning's groups.
        members.sort(key=lambda member: member.side == "out", reverse=True)
        first = sum(member.side == "out" for member in members)
        members[1:first] = reversed(members[1:first])
        return ChannelGroup(root.name, len(channel), tuple(members), tuple(parameters), tuple(sizes.values())), [
            *channel
        ]

    def _defect(self, group: ChannelGroup, classes: list[int]) -> str | None:
        """Reason why a group cannot be pruned that shows without running it, or None."""
        uneven = [member.layer for member in group.members if not _is_even(member, group.n_channels)]
        is_used = bool(self._consumed & set(classes))
        reasons = {
            "shuffles or splits tie all its channels to each other": group.n_channels < 2,
            **{self._frozen[number]: True for number in classes if number in self._frozen},
            f"{(*uneven, '')[0]} sees some channels more often than others": bool(uneven),
            "never runs": not is_used and group.name not in self._position,
            "is the model's output: no layer consumes its channels": not is_used,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


def _is_even(member: GroupMember, n_channels: int) -> bool:
    """Whether a layer has every channel of its group, each as often."""
    counts = Counter(member.channels)
    return len(counts) == n_channels and len(set(counts.values())) == 1


def _components(size: int, first: Integers, second: Integers) -> Integers:
    """Number of the connected component of each of so many nodes, shape (size,)."""
    edges = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(size, size))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)
