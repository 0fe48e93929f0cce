from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.data import DataSplits, load_data
from hdapbench.data.split import share_count, stratified_order
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec, NormalizeSpec

SHAPE = (1, 16, 16)


def digits(tmp_path, input_shape=SHAPE, **options) -> DataSplits:
    return load_data(DataSpec(name="digits", **options), input_shape, base_dir=tmp_path, cache_dir=tmp_path)


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_every_prefix_of_a_stratified_order_is_stratified():
    labels = np.repeat(np.arange(3), [100, 300, 600])

    order = stratified_order(labels)

    assert sorted(order.tolist()) == list(range(1000))
    for end in (10, 50, 333, 700):
        counts = np.bincount(labels[order[:end]], minlength=3)
        assert np.abs(counts - end * np.array([0.1, 0.3, 0.6])).max() <= 1


def test_stratified_orders_mix_the_images_of_a_class():
    order = stratified_order(np.zeros(100, dtype=np.int64))

    assert order.tolist() != sorted(order.tolist())


@pytest.mark.parametrize(("n", "share", "expected"), [(100, 0.2, 20), (100, 0.01, 10), (100, 0.99, 90), (12, 0.5, 2)])
def test_parts_keep_at_least_one_image_per_class_on_both_sides(n, share, expected):
    assert share_count(n, share, 10) == expected


def test_digits_are_split_into_disjoint_parts_of_all_images(tmp_path):
    data = digits(tmp_path, search_share=0.15, test_share=0.2)

    parts = [rows(part.images) for part in (data.train, data.search, data.test)]
    assert [len(part) for part in parts] == [1222, 216, 359]
    assert len(set().union(*parts)) == 1797


def test_every_class_has_its_share_of_every_part(tmp_path):
    data = digits(tmp_path)

    for part in (data.train, data.search, data.test):
        counts = part.labels.bincount(minlength=10)
        assert (counts - len(part) / 10).abs().max() <= 0.03 * len(part) + 1


def test_the_test_part_does_not_depend_on_the_search_share(tmp_path):
    one, other = (digits(tmp_path, search_share=share) for share in (0.1, 0.3))

    assert torch.equal(one.test.images, other.test.images)


def test_digits_come_in_the_size_and_channels_of_the_network(tmp_path):
    data = digits(tmp_path, (3, 12, 20))

    assert data.train.images.shape[1:] == (3, 12, 20)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])
    assert len(data.train.mean) == 3


def test_normalised_digits_have_about_mean_zero_and_deviation_one(tmp_path):
    images = torch.cat([batch for batch, _ in digits(tmp_path).train.batches(500, shuffle_seed=None)])

    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05


def test_the_content_hash_follows_everything_that_a_model_sees(tmp_path):
    spec = {"normalize": NormalizeSpec(mean=(0.5,), std=(0.5,))}
    hashes = [
        digits(tmp_path, shape, **options).content_hash
        for shape, options in [
            (SHAPE, {}),
            (SHAPE, {}),
            (SHAPE, {"augment": "shift"}),
            (SHAPE, {"search_share": 0.3}),
            (SHAPE, spec),
            ((1, 12, 12), {}),
        ]
    ]

    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


def test_normalisation_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(DataError, match="needs 1 means"):
        digits(tmp_path, normalize=NormalizeSpec(mean=(0.5, 0.5), std=(0.5, 0.5)))


def test_images_of_two_channels_are_refused(tmp_path):
    with pytest.raises(DataError, match="1 or 3 channels"):
        digits(tmp_path, (2, 8, 8))
