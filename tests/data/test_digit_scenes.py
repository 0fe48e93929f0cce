from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.data import load_data, scenes
from hdapbench.data.box_labels import parse_labels
from hdapbench.spec import DataSpec

SHAPE = (3, 96, 96)


@pytest.fixture
def few(monkeypatch):
    """Fewer pictures than are shipped."""
    monkeypatch.setattr(scenes, "N_TRAIN", 30)
    monkeypatch.setattr(scenes, "N_TEST", 10)


def test_scenes_are_laid_out_for_ultralytics_and_the_same_every_time(few, tmp_path):
    first, second = (scenes.make_scenes(tmp_path / name, SHAPE) for name in ("a", "b"))

    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 81
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert "names:" in (first / "data.yaml").read_text()


def test_scenes_are_made_once(few, tmp_path):
    folder = scenes.make_scenes(tmp_path, SHAPE)
    (folder / "images" / "train" / "00000.png").unlink()

    assert scenes.make_scenes(tmp_path, SHAPE) == folder
    assert not (folder / "images" / "train" / "00000.png").exists()


def test_every_scene_holds_digits_that_lie_inside_and_apart(few, tmp_path):
    folder = scenes.make_scenes(tmp_path, SHAPE)
    seen = set()
    for path in (folder / "labels").rglob("*.txt"):
        boxes = parse_labels(path.read_text(), 10)
        seen |= {int(label) for label in boxes[:, 0]}
        assert 1 <= len(boxes) <= 5
        low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
        assert low.min() >= -1e-5
        assert high.max() <= 1 + 1e-5
        common = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None).prod(2)
        smallest = np.minimum(boxes[:, None, 3:].prod(2), boxes[None, :, 3:].prod(2))
        np.fill_diagonal(common, 0)
        assert (common <= (scenes.MOST_OVERLAP + 0.01) * smallest).all()
    assert seen == set(range(10))


def test_a_spec_without_a_path_gets_scenes_at_its_input_shape(few, tmp_path):
    data = load_data(DataSpec(name="digit-scenes", search_share=0.2), SHAPE, base_dir=tmp_path, cache_dir=tmp_path)

    assert [len(part) for part in (data.train, data.search, data.test)] == [24, 6, 10]
    assert data.train.images.shape[1:] == SHAPE
    assert data.n_classes == 10


def test_ink_is_brighter_than_the_paper_that_it_stands_on(few, tmp_path):
    data = load_data(DataSpec(name="digit-scenes"), SHAPE, base_dir=tmp_path, cache_dir=tmp_path)
    image, boxes = data.train.images[0].float().mean(0), data.train.boxes_of(0)
    _, x, y, w, h = (boxes[0] * torch.tensor([1, 96, 96, 96, 96])).tolist()

    inside = image[round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)]

    assert float(inside.max()) > float(image.median()) + 40
