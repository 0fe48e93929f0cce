from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from zstandard import ZstdCompressor, ZstdDecompressor

from hdapbench.errors import StoreError
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import Benchmark, open_store
from hdapbench.store.travel import FREE_BYTES, MAX_LINE_BYTES, Travelling, only_named, read_travelling
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Outcomes, Result
from tests import boards
from tests.boards import spec_of, trial

SPEC = spec_of(boards.SPEC)
RESULTS = [
    example_result(trial(DENSE), notes={"base_hash": "b" * 64, "fleet": {"sku": "xavier_nx", "n_devices": 40}}),
    example_result(trial("uniform")).model_copy(
        update={"outcomes": Outcomes.of_images(np.arange(359) % 7 > 0), "notes": {"decisions": {"why": "|\n\u202e"}}}
    ),
    example_gap(trial("uniform", seed=1), reason="out of memory"),
]
BEFORE = Path(__file__).parents[1] / "leaderboard" / "quickstart_before"


def travelling(results: list[Result] = RESULTS) -> Travelling:
    ids = tuple(result.trial.id for result in RESULTS)
    return Travelling(Benchmark(SPEC.name, spec_hash(SPEC), json.loads(canonical_json(SPEC)), ids), tuple(results))


def lines_of(content: bytes) -> list[bytes]:
    return ZstdDecompressor().decompress(content, max_output_size=1 << 28).splitlines(keepends=True)


def packed(lines: list[bytes]) -> bytes:
    """File of these lines, with the checksum that they have."""
    whole = b"".join(lines)
    return ZstdCompressor().compress(whole + f'{{"sha256": "{hashlib.sha256(whole).hexdigest()}"}}\n'.encode())


def read(content: bytes, tmp_path: Path) -> Travelling:
    path = tmp_path / "example.jsonl.zst"
    path.write_bytes(content)
    return read_travelling(path)


def test_what_was_written_is_what_is_read_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    content = travelling().to_bytes()

    assert read(content, tmp_path) == travelling()
    assert travelling(RESULTS[::-1]).to_bytes() == content
    assert read(content, tmp_path).to_bytes() == content


def test_the_header_says_what_the_results_are_of() -> None:
    header, *results, last = map(json.loads, lines_of(travelling().to_bytes()))

    assert header["format"] == "hdapbench results"
    assert (header["version"], header["name"], header["spec_hash"]) == (1, "example", spec_hash(SPEC))
    assert (header["hdapbench"], header["numbers"]) == (["0.1.0"], 0)
    assert header["trial_ids"] == [result.trial.id for result in RESULTS]
    assert (len(results), list(last)) == (3, ["sha256"])


def test_the_quickstart_takes_less_than_700_bytes_per_result_and_renders_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(lzma.decompress((BEFORE / "results.db.xz").read_bytes()))
    with open_store(tmp_path / "results.db") as store:
        benchmark = store.benchmark("quickstart")
        found = only_named(benchmark, store.results(trial_ids=benchmark.trial_ids))

    content = found.to_bytes()

    assert len(found.results) == 41
    assert len(content) < 41 * 700
    assert read(content, tmp_path) == found


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no compressed file",
        lambda content: content[:-20],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"more",
        lambda content: content + content,
        lambda content: content[:200] + bytes([content[200] ^ 16]) + content[201:],
        lambda content: ZstdCompressor().compress(b""),
        lambda content: ZstdCompressor().compress(b"".join(lines_of(content)[:-1])),
        lambda content: ZstdCompressor().compress(b"".join(lines_of(content)).replace(b"0.9,", b"0.8,")),
        lambda content: packed([b"[]\n"]),
        lambda content: packed([b'{"format": "another", "version": 1}\n']),
        lambda content: packed([b"[" * 100_000 + b"\n"]),
        lambda content: packed([lines_of(content)[0].replace(b'"example"', b'"../example"')]),
        lambda content: packed([lines_of(content)[0].replace(b"resnet20", b"resnet56")]),
        lambda content: packed([*lines_of(content)[:2], lines_of(content)[1]]),
        lambda content: packed(
            [lines_of(content)[0], lines_of(content)[2].replace(b'"accuracy":0.9', b'"accuracy":9')]
        ),
        lambda content: packed([lines_of(content)[0], lines_of(content)[2].replace(b"9.25", b"-9.25")]),
        lambda content: packed([lines_of(content)[0], lines_of(content)[2].replace(b":359", b":99999999999")]),
        lambda content: packed([lines_of(content)[0], lines_of(content)[1].replace(b'"seed":0', b'"seed":7')]),
    ],
)
def test_a_damaged_file_is_one_clear_error(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        read(damage(travelling().to_bytes()), tmp_path)

    assert "is no file of results, or is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [bytes(4 * MAX_LINE_BYTES), (b"9" * 10_000 + b"\n") * (FREE_BYTES // 9_000)])
def test_a_bomb_is_refused_before_it_has_unpacked(content: bytes, tmp_path: Path) -> None:
    bomb = ZstdCompressor().compress(content)
    assert len(bomb) < 10_000

    with pytest.raises(StoreError, match="unpacks to more than any results take"):
        read(bomb, tmp_path)


def test_outcomes_that_cannot_be_read_are_damage(tmp_path: Path) -> None:
    outcomes = Outcomes(n_images=8, right="AAAA")
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(travelling([RESULTS[1].model_copy(update={"outcomes": outcomes})]).to_bytes())

    with pytest.raises(StoreError, match="line 2 has outcomes of test images that cannot be read"):
        read_travelling(path)


def test_nothing_is_written_that_would_not_be_read_again() -> None:
    result = example_result(RESULTS[1].trial, notes={"decisions": "x" * MAX_LINE_BYTES})

    with pytest.raises(StoreError, match="too many for a file of results"):
        travelling([result]).to_bytes()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"version": 1', b'"version": 2', "has format 2, and this hdapbench knows 1; upgrade with"),
        (b'"status":"complete"', b'"status":"paused"', "line 2 .* was written by another hdapbench .*; upgrade with"),
        (b'"seconds":7.5', b'"joules":3,"seconds":7.5', r"line 2 .*joules: .*; upgrade with"),
    ],
)
def test_newer_formats_are_refused_with_a_hint(old: bytes, new: bytes, said: str, tmp_path: Path) -> None:
    lines = [line.replace(old, new) for line in lines_of(travelling().to_bytes())[:-1]]

    with pytest.raises(StoreError, match=said):
        read(packed(lines), tmp_path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent.jsonl.zst' cannot be read: No such file"):
        read_travelling(tmp_path / "absent.jsonl.zst")


def test_the_version_of_the_numbers_is_that_of_the_trials() -> None:
    later = [
        example_result(result.trial.model_copy(update={"sources": {"program": "3"}}), metrics=example_metrics())
        for result in RESULTS
    ]

    assert Travelling(travelling().benchmark, tuple(later)).numbers == 3
