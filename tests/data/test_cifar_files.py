from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from hdapbench.data import DataSplits, load_data
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six batches of twenty images, in the layout of the published archive."""
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in BATCHES:
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [*range(10)] * 2}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    return root


def load(path: Path, input_shape=(3, 32, 32)) -> DataSplits:
    spec = DataSpec(name="cifar10", path=str(path))
    return load_data(spec, input_shape, base_dir=path, cache_dir=path)


def test_published_batches_become_disjoint_splits(folder):
    data = load(folder.parent)

    assert [len(part) for part in (data.train, data.search, data.test)] == [90, 10, 20]
    images = {image.numpy().tobytes() for part in (data.train, data.search) for image in part.images}
    assert len(images) == 100


def test_images_keep_their_channel_order_and_labels(folder):
    batch = pickle.loads((folder / "test_batch").read_bytes())  # noqa: S301 - written by this test

    data = load(folder)

    assert np.array_equal(data.test.images.numpy().reshape(20, 3072), batch["data"])
    assert data.test.labels.tolist() == batch["labels"]


def test_images_are_brought_to_the_size_of_the_network(folder):
    assert load(folder, (1, 16, 16)).train.images.shape[1:] == (1, 16, 16)


def test_a_missing_set_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"missing: data_batch_1.*cs\.toronto\.edu.*data\.path"):
        load(tmp_path)


def test_a_set_without_a_path_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"data\.path is missing.*cs\.toronto\.edu"):
        load_data(DataSpec(name="cifar10"), (3, 32, 32), base_dir=tmp_path, cache_dir=tmp_path)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_code_in_a_batch_is_never_run(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Trap()}))

    with pytest.raises(DataError, match=r"data_batch_3.*mkdir is not part of an array"):
        load(folder)

    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"labels": []}), pickle.dumps([1])])
def test_damaged_batches_are_named(folder, content):
    (folder / "test_batch").write_bytes(content)

    with pytest.raises(DataError, match="test_batch' is no batch of CIFAR-10"):
        load(folder)


class Forged:
    """An array whose type and bytes do not belong together: numpy takes the bytes for addresses."""

    def __init__(self, code: str, raw: bytes) -> None:
        self.code, self.raw = code, raw

    def __reduce__(self):
        rebuild, arguments, _ = np.zeros(1, np.uint8).__reduce__()
        return rebuild, arguments, (1, (1, 3072), np.dtype(self.code), False, self.raw)


@pytest.mark.parametrize(
    "batch",
    [
        {"data": Forged("O", b"A" * 3072 * 8), "labels": [0]},
        {"data": Forged("O", [b"A"] * 3072), "labels": [0]},
        {"data": Forged("f8", b"A" * 3072), "labels": [0]},
        {"data": Forged("u1", b"A" * 3071), "labels": [0]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [10]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [[0]]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [0.0]},
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused_before_numpy_sees_them(folder, batch):
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))

    with pytest.raises(DataError, match="data_batch_2' is no batch of CIFAR-10"):
        load(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # keeps something at index 2**31 of its memory
        b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"K\x00u.",  # a key of a million tuples, each in the next
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".",  # a terabyte of bytes
    ],
    ids=["memory", "depth", "bytes"],
)
def test_pickles_that_break_memory_are_refused(folder, content):
    (folder / "data_batch_2").write_bytes(content)

    with pytest.raises(DataError, match="data_batch_2' is no batch of CIFAR-10"):
        load(folder)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batches_of_other_protocols_are_read(folder, protocol):
    expected = load(folder).content_hash
    for name in BATCHES:
        batch = pickle.loads((folder / name).read_bytes())  # noqa: S301 - written by this test
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))

    assert load(folder).content_hash == expected
