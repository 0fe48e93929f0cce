from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.data import DataSplits, ImageSet
from hdapbench.errors import ModelError
from hdapbench.models import build_model, load_start, state_hash
from hdapbench.spec import BaseRecipe, ModelSpec
from hdapbench.tasks.base import DenseBase, prepare_base

RECIPE = BaseRecipe(epochs=2.0, batch_size=16)
CODE = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))
"""


@pytest.fixture
def data() -> DataSplits:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    part = ImageSet(images, torch.arange(60) % 3, mean=(0.5,), std=(0.3,))
    return DataSplits(part, part, part, n_classes=3, content_hash="0" * 64)


@pytest.fixture
def prepare(tmp_path: Path, data: DataSplits):
    """Prepare a base model; says how many epochs were trained for it."""
    (tmp_path / "net.py").write_text(CODE)

    def run(
        recipe: BaseRecipe = RECIPE, data: DataSplits = data, lines: list[str] | None = None, **model: object
    ) -> tuple[DenseBase, int]:
        spec = ModelSpec(name="./net.py:tiny", input_shape=(1, 8, 8), **model)
        reports = []
        base = prepare_base(
            spec,
            recipe,
            data,
            base_dir=tmp_path,
            cache_dir=tmp_path / "cache",
            on_epoch=reports.append,
            on_progress=None if lines is None else lines.append,
        )
        return base, len(reports)

    return run


def test_a_base_model_is_trained_once(prepare):
    first, epochs_first = prepare()
    second, epochs_second = prepare()

    assert (epochs_first, epochs_second) == (2, 0)
    assert first.hash == second.hash == state_hash(second.model)
    assert first.trained
    assert second.trained
    assert not second.model.training


def test_two_trainings_give_the_same_model(prepare, tmp_path):
    first, _ = prepare()
    next((tmp_path / "cache" / "base").iterdir()).unlink()

    second, epochs = prepare()

    assert epochs == 2
    assert second.hash == first.hash


def test_whatever_the_model_depends_on_trains_it_anew(prepare, data, tmp_path):
    changed_data = DataSplits(data.train, data.search, data.test, n_classes=3, content_hash="1" * 64)
    prepare()

    assert prepare(recipe=BaseRecipe(epochs=2.0, batch_size=16, seed=1))[1] == 2
    assert prepare(recipe=BaseRecipe(epochs=3.0, batch_size=16))[1] == 3
    assert prepare(data=changed_data)[1] == 2
    (tmp_path / "net.py").write_text(CODE.replace("nn.ReLU()", "nn.SiLU()"))
    assert prepare()[1] == 2
    assert prepare()[1] == 0


@pytest.mark.parametrize("damage", ["cut", "zeros", "no file of torch"])
def test_a_damaged_cache_is_trained_again_with_a_line(prepare, tmp_path, damage):
    first, _ = prepare()
    path = next((tmp_path / "cache" / "base").iterdir())
    content = path.read_bytes()
    weights = next(value for name, value in first.model.state_dict().items() if name.endswith("4.weight"))
    place = content.index(weights.numpy().tobytes())
    path.write_bytes(
        {
            "cut": content[:place],
            "zeros": content[:place] + bytes(64) + content[place + 64 :],
            "no file of torch": b"x",
        }[damage]
    )
    lines: list[str] = []

    second, epochs = prepare(lines=lines)

    assert (epochs, second.hash) == (2, first.hash)
    assert [line for line in lines if "is damaged; it is trained again" in line]
    assert prepare()[1] == 0


def test_a_cached_model_of_before_is_used_as_it_is(prepare, tmp_path):
    first, _ = prepare()
    path = next((tmp_path / "cache" / "base").iterdir())
    torch.save(first.model.state_dict(), path)

    assert prepare()[1] == 0


def test_a_helper_beside_the_model_file_trains_it_anew(prepare, tmp_path):
    (tmp_path / "widths.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(CODE)
    assert prepare()[1] == 2
    (tmp_path / "net.py").write_text(f"try:\n    import widths\nexcept ImportError:\n    pass\n{CODE}")
    assert prepare()[1] == 2

    (tmp_path / "widths.py").write_text("WIDTH = 5\n")

    assert prepare()[1] == 2


def test_the_cache_holds_whole_files_only(prepare, tmp_path):
    prepare()

    assert [path.suffix for path in (tmp_path / "cache" / "base").iterdir()] == [".pt"]


def test_an_interrupted_training_leaves_nothing_behind(prepare, monkeypatch, tmp_path):
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hdapbench.tasks.base.train_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare()

    assert not (tmp_path / "cache").exists()


def test_given_weights_are_used_as_they_are(prepare, tmp_path):
    trained, _ = prepare()
    torch.save(trained.model.state_dict(), tmp_path / "mine.pt")

    base, epochs = prepare(weights="mine.pt")

    assert epochs == 0
    assert base.hash == trained.hash
    assert not base.trained


def test_given_option_a_weights_are_calibrated_on_training_images(data, tmp_path):
    spec = ModelSpec(name="resnet20", input_shape=(1, 8, 8), weights="a.pt")
    model = build_model(spec, n_classes=3, base_dir=tmp_path)
    option_a = {name: value for name, value in model.state_dict().items() if "shortcut" not in name}
    torch.save(option_a, tmp_path / "a.pt")

    base = prepare_base(spec, RECIPE, data, base_dir=tmp_path, cache_dir=tmp_path)

    norm = base.model.get_submodule("layer2.0.shortcut.1")
    assert float(norm.running_mean.abs().max()) > 0
    torch.testing.assert_close(norm.weight, (norm.running_var + norm.eps).sqrt())
    torch.testing.assert_close(norm.bias, norm.running_mean)


def test_given_weights_that_do_not_fit_are_one_error(prepare, tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "mine.pt")

    with pytest.raises(ModelError, match=r"8 missing.*1 unexpected: x"):
        prepare(weights="mine.pt")


def test_the_initial_weights_follow_the_seed_and_leave_the_global_random_state_alone(prepare):
    before = torch.get_rng_state()
    hashes = {prepare(recipe=BaseRecipe(epochs=0.0, seed=seed))[0].hash for seed in (0, 0, 1)}

    assert len(hashes) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_for_other_classes_are_the_start_of_a_training(prepare, tmp_path, data):
    start, other = BaseRecipe(epochs=2, **{"from": "weights"}), replace(data, n_classes=5, content_hash="1" * 64)
    trained, _ = prepare()
    torch.save(trained.model.state_dict(), tmp_path / "mine.pt")

    base, epochs = prepare(start, data=other, weights="mine.pt")
    again, epochs_again = prepare(start, data=other, weights="mine.pt")
    elsewhere, epochs_elsewhere = prepare(RECIPE, data=other)

    assert (epochs, epochs_again, epochs_elsewhere) == (2, 0, 2)
    assert base.trained
    assert base.hash == again.hash != elsewhere.hash


def test_only_what_follows_the_number_of_classes_is_left_as_it_was_drawn(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net(num_classes, width=4):\n    hidden = max(width, num_classes)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, hidden), nn.Linear(hidden, num_classes))\n"
    )
    spec = ModelSpec(name="./net.py:net", input_shape=(1, 8, 8))

    def build(n_classes: int, **arguments: int) -> nn.Module:
        return build_model(spec.model_copy(update={"arguments": arguments}), n_classes=n_classes, base_dir=tmp_path)

    given, model = build(6), build(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    replaced = load_start(model, given.state_dict(), source="w", n_classes=3, build=build)

    assert replaced == ("2.weight", "2.bias", "3.weight", "3.bias")  # the hidden layer's width follows the classes too
    assert torch.equal(model[1].weight, given[1].weight)
    assert torch.equal(model[2].weight, before["2.weight"])
    with pytest.raises(ModelError, match=r"weights 'w' do not fit .* replaces only what follows the number of classes"):
        load_start(model, build(6, width=9).state_dict(), source="w", n_classes=3, build=build)
    assert load_start(model, build(3).state_dict(), source="w", n_classes=3, build=build) == ()
