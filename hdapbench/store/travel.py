"""Results of a benchmark in one file that travels: lines of JSON, compressed, with a checksum. Reading runs no code.

The first line is a header, the last one the SHA-256 of the others, and each line between them is a result with all that
the database holds of it. Equal content gives equal bytes: no time of writing, trials in the order of the benchmark.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from hdapbench.errors import StoreError, printable
from hdapbench.store.sqlite import Benchmark
from hdapbench.trial import NUMBERS, Outcomes, Result, Status, Trial

SUFFIX = ".jsonl.zst"

FORMAT, VERSION = "hdapbench results", 1
LEVEL, FAST_LEVEL, LARGE_BYTES = 19, 9, 1 << 22
"""Of compression: above `LARGE_BYTES` the best level would take minutes."""

MAX_FILE_BYTES = 1 << 28
MAX_LINE_BYTES = 1 << 22
MAX_BYTES, FREE_BYTES, MAX_EXPANSION = 1 << 30, 1 << 26, 100
"""Unpacked, in all: of more than `FREE_BYTES` at most so many times the file's size; results take ten times it."""

MAX_WINDOW_BYTES = 1 << 27
MAX_IMAGES = 10_000_000
CHUNK_BYTES = 1 << 20
UPGRADE = "upgrade with: pip install --upgrade hdapbench"


@dataclass(frozen=True)
class Travelling:
    """A benchmark and its results, as a file holds them."""

    benchmark: Benchmark
    results: tuple[Result, ...]

    @property
    def numbers(self) -> int:
        """Number-changing version of hdapbench (`hdapbench.trial.NUMBERS`) that the trials are of."""
        return max((_numbers(result.trial) for result in self.results), default=NUMBERS)

    def to_bytes(self) -> bytes:
        """Content of a file.

        Raises
        ------
        StoreError
            When a result is larger than any that is read again.
        """
        order = {trial_id: place for place, trial_id in enumerate(self.benchmark.trial_ids)}
        results = sorted(self.results, key=lambda result: order[result.trial.id])
        header = _Header(
            format=FORMAT,
            version=VERSION,
            hdapbench=sorted({result.environment.hdapbench for result in results}),
            numbers=self.numbers,
            name=self.benchmark.name,
            spec_hash=self.benchmark.spec_hash,
            spec=self.benchmark.spec,
            trial_ids=list(self.benchmark.trial_ids),
        )
        texts = [json.dumps(header.model_dump(mode="json")), *(result.model_dump_json() for result in results)]
        lines = [text.encode() for text in texts]
        if (longest := max(map(len, lines))) > MAX_LINE_BYTES:
            raise StoreError(f"a result of '{header.name}' takes {longest:,} bytes: too many for a file of results")
        content = b"".join(line + b"\n" for line in lines)
        content += f'{{"sha256": "{hashlib.sha256(content).hexdigest()}"}}\n'.encode()
        return ZstdCompressor(level=LEVEL if len(content) < LARGE_BYTES else FAST_LEVEL).compress(content)


class _Header(BaseModel):
    """First line of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    version: int
    hdapbench: list[str]
    numbers: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)
    spec_hash: str = Field(pattern=r"^[0-9a-f]{16}$")
    spec: dict[str, Any]
    trial_ids: list[str]


class _DamagedError(Exception):
    """What is wrong with a file."""


def read_travelling(path: Path) -> Travelling:
    """What a file of results holds.

    Raises
    ------
    StoreError
        When it cannot be read, is none, is damaged or larger than any real one, or of a newer version.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise StoreError(f"'{path}' is larger than {MAX_FILE_BYTES >> 20} MiB; results of a benchmark are not")
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"the results '{path}' cannot be read: {error.strerror or error}") from error
    return parse_travelling(content, str(path))


def parse_travelling(content: bytes, source: str) -> Travelling:
    """What the content of a file of results holds; ``source`` names it in errors.

    Raises
    ------
    StoreError
        As for `read_travelling`.
    """
    try:
        return _parsed(content, source)
    except (_DamagedError, ZstdError) as error:
        what = printable(" ".join(str(error).split()))[:200]
        raise StoreError(
            f"'{source}' is no file of results, or is damaged: {what}; take it again from where it came from"
        ) from None


def _parsed(content: bytes, source: str) -> Travelling:
    _check_sum(_lines(content))
    lines = _lines(content)
    header = _header(next(lines), source)
    results: dict[str, Result] = {}
    named = set(header.trial_ids)
    for number, (line, _) in enumerate(pairwise(lines), start=2):  # not the last: `_check_sum` has seen to that
        try:
            result = Result.model_validate_json(line)
        except ValidationError as error:
            raise StoreError(
                f"line {number} of '{source}' was written by another hdapbench ({_first(error)}); {UPGRADE}"
            ) from None
        if (wrong := _implausible(result)) is not None:
            raise _DamagedError(f"line {number} {wrong}")
        trial_id = result.trial.id
        if trial_id in results or trial_id not in named:
            raise _DamagedError(f"line {number} has a trial that stands there before, or that the header does not name")
        results[trial_id] = result
    return Travelling(
        Benchmark(header.name, header.spec_hash, header.spec, tuple(header.trial_ids)), tuple(results.values())
    )


def _lines(content: bytes) -> Iterator[bytes]:
    """Lines of a file without their ends, none of them longer, nor all of them together, than is reasonable."""
    stream = ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(BytesIO(content), read_across_frames=True)
    most = min(MAX_BYTES, max(FREE_BYTES, MAX_EXPANSION * len(content)))
    pending, n_bytes = b"", 0
    while chunk := stream.read(CHUNK_BYTES):
        n_bytes += len(chunk)
        *whole, pending = (pending + chunk).split(b"\n")
        if n_bytes > most or max(map(len, (*whole, pending))) > MAX_LINE_BYTES:
            raise _DamagedError("it unpacks to more than any results take")
        yield from whole
    if pending:
        raise _DamagedError("it ends in the middle of a line")


def _check_sum(lines: Iterator[bytes]) -> None:
    """Refuse what is not whole: the last line, and it alone, tells the hash of all before it."""
    digest = hashlib.sha256()
    last = None
    for line in lines:
        if last is not None:
            digest.update(last + b"\n")
        last = line
    if last is None or last != f'{{"sha256": "{digest.hexdigest()}"}}'.encode():
        raise _DamagedError("its last line is not the checksum of the others")


def _header(line: bytes, source: str) -> _Header:
    try:
        content = json.loads(line)
        version = content["version"] if content["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError, RecursionError):
        version = None
    if not isinstance(version, int):
        raise _DamagedError("its first line is no header")
    if version > VERSION:
        raise StoreError(f"'{source}' has format {version}, and this hdapbench knows {VERSION}; {UPGRADE}")
    try:
        header = _Header.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise _DamagedError(_first(error) if isinstance(error, ValidationError) else "nested too deep") from None
    spec_json = json.dumps(header.spec, sort_keys=True, separators=(",", ":"))
    is_of_spec = hashlib.sha256(spec_json.encode()).hexdigest().startswith(header.spec_hash)
    if not is_of_spec or header.spec.get("name") != header.name or len(set(header.trial_ids)) < len(header.trial_ids):
        raise _DamagedError("its header contradicts itself")
    return header


def _implausible(result: Result) -> str | None:
    """What the database would refuse of a result; None where nothing is wrong."""
    metrics, outcomes = result.metrics, result.outcomes
    if (result.status is Status.COMPLETE) != (metrics is not None):
        return "is complete without numbers, or has numbers without being complete"
    if metrics is None and result.reason is None:
        return "has neither numbers nor a reason"
    if metrics is not None and not 0 <= metrics.accuracy <= 1:
        return f"has an accuracy of {metrics.accuracy}"
    latencies = [metrics.latency_ms] if metrics is not None else []
    latencies += [sample for device in result.devices for sample in device.samples_ms]
    if not all(0 < latency < math.inf for latency in latencies):
        return "has a latency that is not positive"
    return None if outcomes is None else _implausible_outcomes(outcomes)


def _implausible_outcomes(outcomes: Outcomes) -> str | None:
    if outcomes.n_images > MAX_IMAGES:
        return f"tells of {outcomes.n_images} test images"
    try:
        _ = outcomes.bits
    except (ValueError, zlib.error):
        return "has outcomes of test images that cannot be read"
    return None


def _numbers(trial: Trial) -> int:
    found = trial.sources.get("program", "0")
    return int(found) if re.fullmatch(r"\d{1,6}", found) else 0


def _first(error: ValidationError) -> str:
    """The first thing that this version does not know."""
    details = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, details['loc']))}: {details['msg']}"


def only_named(benchmark: Benchmark, results: Iterable[Result]) -> Travelling:
    """A benchmark and those of some results that are of its trials."""
    named = set(benchmark.trial_ids)
    return Travelling(benchmark, tuple(result for result in results if result.trial.id in named))
