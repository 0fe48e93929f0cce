"""Brief: what a board takes of a result, in a form that is read in microseconds.

A result has thousands of numbers, most of them indices of channels; a board of many results would wait for them.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from sys import intern
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from hdapbench.store.connection import Connection
from hdapbench.trial import CLUSTERED_ANEW, DENSE, SCORED_AGAIN, BitMetrics, Environment, Metrics, Result

NO_NOTES = "{}"
FLEET_NOTES = frozenset({CLUSTERED_ANEW, SCORED_AGAIN})


class Numbers(NamedTuple):
    """What boards show of `Metrics`, under the same names."""

    flops: int
    flops_target: int | None
    params: int
    size_bytes: int
    accuracy: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    p95_ms: float
    worst_cluster_ms: float
    latency_source: str
    map50: float | None
    target_share: float | None
    product_flops: int
    target_shares: dict[str, float]
    bits: BitMetrics | None

    @property
    def flops_share(self) -> float | None:
        """Share of the FLOPs target that the plan uses, or None for the dense reference."""
        return None if self.flops_target is None else self.flops / self.flops_target


class Brief(NamedTuple):
    """What a board takes of a result, under the names of `Result` and `Trial`.

    Attributes
    ----------
    groups_json, widths
        Names of the plan's channel groups, as JSON, and how many channels it keeps of each.
    devices_json
        JSON of (name, cluster, weight, number of repeats) of each device, by cluster and name.
    parts, n_images
        See `Outcomes`.
    spent
        Device queries, accuracy evaluations and training epochs.
    notes_json
        Of the dense model; of others what says that their fleet had changed.
    samples
        Repeats of all devices, one device after another, as eight-byte numbers.
    bits
        See `Outcomes`.
    """

    id: str
    method: str
    parameters_json: str
    target: str | None
    fleet_hash: str
    seed: int
    status: str
    reason: str | None
    numbers: Numbers | None
    groups_json: str | None
    widths: tuple[int, ...]
    devices_json: str
    n_images: int | None
    parts: tuple[float, ...]
    spent: tuple[int, int, float]
    environment_json: str
    notes_json: str
    samples: bytes
    bits: bytes | None

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the method; the same object for all briefs with the same parameters."""
        return _object(self.parameters_json)

    @property
    def environment(self) -> Environment:
        """Where the result was obtained."""
        return Environment.model_validate_json(self.environment_json)

    @property
    def notes(self) -> dict[str, Any]:
        """What the run noted beside the numbers."""
        return dict(json.loads(self.notes_json))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the channel groups; none without a plan."""
        return () if self.groups_json is None else _names(self.groups_json)

    @property
    def by_group(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names of the channel groups in alphabetical order, and how many channels are kept of each."""
        if self.groups_json is None:
            return (), ()
        names, order = _sorted_names(self.groups_json)
        return names, tuple([self.widths[place] for place in order])

    @property
    def devices(self) -> tuple[tuple[str, int, float, int], ...]:
        """Name, cluster, weight and number of repeats of each device."""
        return _devices(self.devices_json)

    def without_numbers(self, status: str, reason: str) -> Brief:
        """The brief of a trial that has none, for a reason."""
        return self._replace(status=status, reason=reason, numbers=None, devices_json="[]", samples=b"")

    def to_json(self) -> str:
        """JSON that `read_brief` reads; id, samples and bits are left out."""
        numbers = self.numbers
        bits = None if numbers is None or numbers.bits is None else numbers.bits.model_dump(mode="json")
        fields: list[object] = list(self[1:-2])
        fields[_NUMBERS] = None if numbers is None else (*numbers[:-1], bits)
        return json.dumps(fields, separators=(",", ":"))


@contextmanager
def without_collection() -> Iterator[None]:
    """Put off the search for unreachable cycles, which takes a third of the time where many values are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_STORE = (
    "INSERT INTO brief (trial_id, content, samples, bits, checksum) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (trial_id) DO UPDATE SET content = excluded.content, samples = excluded.samples,"
    " bits = excluded.bits, checksum = excluded.checksum"
)


def store_briefs(connection: Connection, briefs: Iterable[Brief]) -> None:
    """Store briefs of results that are there, in the place of earlier ones."""
    for brief in briefs:
        content = brief.to_json()
        checksum = _checksum(brief.id, content.encode(), brief.samples, brief.bits)
        row = (brief.id, content, brief.samples, brief.bits, checksum)
        connection.execute(_STORE, row)


def stored_briefs(connection: Connection, trial_ids: Sequence[str]) -> dict[str, Brief]:
    """Trial id -> brief, of those trials whose brief is stored and is what was stored."""
    with without_collection():
        return {
            trial_id: read_brief(trial_id, content, samples, bits)
            for trial_id, content, samples, bits, checksum in connection.briefs(trial_ids)
            if _checksum(trial_id, content, samples, bits).encode() == checksum
        }


def _checksum(trial_id: str, content: bytes, samples: bytes, bits: bytes | None) -> str:
    sizes = b" %d %d " % (len(content), -1 if bits is None else len(bits))
    return hashlib.sha256(b"".join((trial_id.encode(), sizes, content, samples, bits or b""))).hexdigest()[:32]


def read_brief(trial_id: str, content: bytes, samples: bytes, bits: bytes | None) -> Brief:
    """Brief of a trial from what `Brief.to_json` wrote, and what it left out."""
    fields = from_json(content)
    numbers = fields[_NUMBERS]
    if numbers is not None:
        if numbers[-1] is not None:
            numbers[-1] = BitMetrics.model_validate_json(json.dumps(numbers[-1]))
        numbers[-1:-1] = [{}] * (len(Numbers._fields) - len(numbers))  # of before there were several limits
        fields[_NUMBERS] = Numbers._make(numbers)
    for place in _TUPLES:
        fields[place] = tuple(fields[place])
    for place in _COMMON:
        if fields[place] is not None:
            fields[place] = intern(fields[place])  # kept once, whatever the number of results
    return Brief._make((trial_id, *fields, samples, bits))


def brief_of(result: Result) -> Brief:
    """What a board takes of a result."""
    trial, metrics, plan, outcomes, spent = (
        result.trial,
        result.metrics,
        result.plan,
        result.outcomes,
        result.spent,
    )
    devices = sorted(result.devices, key=lambda device: (device.cluster, device.device))
    samples = np.array([sample for device in devices for sample in device.samples_ms], "<f8")
    return Brief(
        id=trial.id,
        method=trial.method,
        parameters_json=_text(trial.model_dump(mode="json", include={"parameters"})["parameters"]),
        target=trial.target,
        fleet_hash=trial.fleet_hash,
        seed=trial.seed,
        status=result.status.value,
        reason=result.reason,
        numbers=None if metrics is None else _numbers(metrics),
        groups_json=None if plan is None else _text(list(plan.kept)),
        widths=() if plan is None else tuple(len(kept) for kept in plan.kept.values()),
        devices_json=_text([(of.device, of.cluster, of.weight, len(of.samples_ms)) for of in devices]),
        n_images=None if outcomes is None else outcomes.n_images,
        parts=() if outcomes is None else outcomes.parts,
        spent=(spent.device_queries, spent.accuracy_evals, spent.train_epochs),
        environment_json=result.environment.model_dump_json(),
        notes_json=_text(_told(result)),
        samples=samples.tobytes(),
        bits=None if outcomes is None else outcomes.bits,
    )


_NUMBERS = Brief._fields.index("numbers") - 1
_COMMON = [
    Brief._fields.index(name) - 1 for name in ("parameters_json", "groups_json", "devices_json", "environment_json")
]
_TUPLES = [Brief._fields.index(name) - 1 for name in ("widths", "parts", "spent")]


def _numbers(metrics: Metrics) -> Numbers:
    return Numbers._make(getattr(metrics, name) for name in Numbers._fields)


def _told(result: Result) -> dict[str, Any]:
    """Notes that boards show."""
    notes = result.model_dump(mode="json", include={"notes"})["notes"]
    return {key: note for key, note in notes.items() if result.trial.method == DENSE or key in FLEET_NOTES}


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@cache
def _object(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


@cache
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@cache
def _sorted_names(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = _names(text)
    order = tuple(sorted(range(len(names)), key=names.__getitem__))
    return tuple(names[place] for place in order), order


@cache
def _devices(text: str) -> tuple[tuple[str, int, float, int], ...]:
    return tuple((str(name), int(cluster), float(weight), int(n)) for name, cluster, weight, n in json.loads(text))
