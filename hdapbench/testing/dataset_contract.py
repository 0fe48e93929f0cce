"""What any data set must do, as a test suite: subclass `DatasetContract` and return your `DataSet` from its fixture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdapbench.data import DataRequest, DataSet, DataSplits, Samples
from hdapbench.spec import DataSpec


class DatasetContract:
    """Tests that every data set passes. A subclass overrides the fixture `dataset`, and `asked` to ask for more."""

    @pytest.fixture
    def dataset(self) -> DataSet:
        """Data set to test."""
        raise NotImplementedError("override the fixture `dataset` to return a data set")

    @pytest.fixture
    def asked(self, tmp_path: Path) -> DataRequest:
        """What a spec asks the data set for."""
        return DataRequest(DataSpec(name="tested"), (1, 16, 16), base_dir=tmp_path, cache_dir=tmp_path / "cache")

    @pytest.fixture
    def splits(self, dataset: DataSet, asked: DataRequest) -> DataSplits:
        """What the data set gives."""
        return dataset.load(asked)

    def test_images_have_the_shape_asked_for_and_labels_are_of_known_classes(
        self, splits: DataSplits, asked: DataRequest
    ) -> None:
        """Boxes are shares of the image and name an image of their batch."""
        for part in _parts(splits):
            assert len(part)
            for images, labels in part.batches(32, shuffle_seed=None):
                classes = labels if labels.ndim == 1 else labels[:, 1]
                assert images.dtype == torch.float32
                assert tuple(images.shape[1:]) == asked.input_shape
                assert images.isfinite().all()
                assert ((classes >= 0) & (classes < splits.n_classes)).all()
                if labels.ndim > 1:
                    assert labels.shape[1] == 6
                    assert ((labels[:, 0] >= 0) & (labels[:, 0] < len(images))).all()
                    assert ((labels[:, 2:] >= 0) & (labels[:, 2:] <= 1)).all()
                else:
                    assert labels.shape == (len(images),)

    def test_no_image_is_in_two_parts(self, splits: DataSplits) -> None:
        """What is searched or tested on was not trained on."""
        train, search, test = (
            {image.numpy().tobytes() for images, _ in part.batches(256, shuffle_seed=None) for image in images}
            for part in _parts(splits)
        )

        assert not train & search
        assert not (train | search) & test

    def test_equal_requests_give_equal_images_under_one_hash(
        self, dataset: DataSet, asked: DataRequest, splits: DataSplits
    ) -> None:
        """Results of different runs can be compared."""
        again = dataset.load(asked)

        assert again.content_hash == splits.content_hash
        for part, same in zip(_parts(splits), _parts(again), strict=True):
            assert _equal(part, same, shuffle_seed=None)

    def test_the_search_share_is_held_out_of_the_training_images(
        self, dataset: DataSet, asked: DataRequest, splits: DataSplits
    ) -> None:
        """Another share is other data: the hash tells them apart."""
        half = dataset.load(replace(asked, spec=asked.spec.model_copy(update={"search_share": 0.5})))

        assert len(half.search) > len(splits.search)
        assert len(half.train) + len(half.search) == len(splits.train) + len(splits.search)
        assert half.content_hash != splits.content_hash

    def test_a_seed_fixes_the_order_and_a_limit_the_number(self, splits: DataSplits) -> None:
        """Training draws the same batches whenever it is repeated."""
        images = [len(images) for images, _ in splits.train.batches(4, shuffle_seed=1, limit=10)]

        assert images == [4, 4, 2]
        assert _equal(splits.train, splits.train, shuffle_seed=1)
        assert not _equal(splits.train, splits.train, shuffle_seed=1, other_seed=2)


def _parts(splits: DataSplits) -> tuple[Samples, Samples, Samples]:
    return splits.train, splits.search, splits.test


def _equal(first: Samples, second: Samples, *, shuffle_seed: int | None, other_seed: int | None = None) -> bool:
    """Whether two sets begin with the same batch."""
    ours, _ = next(iter(first.batches(32, shuffle_seed=shuffle_seed)))
    theirs, _ = next(iter(second.batches(32, shuffle_seed=shuffle_seed if other_seed is None else other_seed)))
    return torch.equal(ours, theirs)
