"""The network that a base model learns from: found by a spec, given images as it knows them, named in ids."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hdapbench.cli.main import main
from hdapbench.data import load_data
from hdapbench.method.registry import MethodRegistry
from hdapbench.models import build_model
from hdapbench.run.grid import plan_trials
from hdapbench.spec import DataSpec, ModelSpec, NormalizeSpec, TeacherSpec, load
from hdapbench.spec.schema import BaseRecipe, DistillationSpec
from hdapbench.tasks.base import given_teacher, prepare_base

SHAPE = (1, 8, 8)
SMALL = ModelSpec(name="resnet6", input_shape=SHAPE)


def kept(path: Path, name: str = "resnet6", *, n_classes: int = 10, seed: int = 0) -> nn.Module:
    """A network of the zoo, its weights in a file."""
    torch.manual_seed(seed)
    model = build_model(ModelSpec(name=name, input_shape=(1, 16, 16)), n_classes=n_classes, base_dir=path.parent)
    torch.save(model.state_dict(), path)
    return model.eval()


def test_a_teacher_sees_images_in_its_own_size_and_normalisation(tmp_path: Path) -> None:
    model = kept(tmp_path / "t.pt")
    spec = TeacherSpec(
        name="resnet6", weights="t.pt", input_shape=(1, 16, 16), normalize=NormalizeSpec(mean=(0.5,), std=(0.25,))
    )
    recipe = BaseRecipe(epochs=1.0, teacher=spec, distillation=DistillationSpec())
    pixels = torch.rand(4, *SHAPE)

    teacher, _ = given_teacher(SMALL, recipe, ((0.1,), (0.3,)), n_classes=10, base_dir=tmp_path)

    def seen(image: Tensor) -> Tensor:
        return nn.functional.interpolate((image - 0.5) / 0.25, size=(16, 16), mode="bilinear")

    assert teacher is not None
    with torch.no_grad():
        torch.testing.assert_close(teacher((pixels - 0.1) / 0.3), model(seen(pixels)), rtol=1e-4, atol=1e-5)


def test_a_base_model_learns_from_its_teacher_and_another_teacher_is_another_base_model(tmp_path: Path) -> None:
    """The loss is the teacher's alone, so that the base model's scores come near to those of whoever taught it."""
    data = load_data(DataSpec(name="digits"), SHAPE, base_dir=tmp_path, cache_dir=tmp_path / "cache")
    images = next(iter(data.train.batches(256, shuffle_seed=0)))[0]
    scores = []
    for seed in (1, 2):
        teacher = kept(tmp_path / "t.pt", seed=seed)
        recipe = BaseRecipe(
            epochs=4.0,
            optimizer="adamw",
            learning_rate=3e-3,
            teacher=TeacherSpec(name="resnet6", weights="t.pt"),
            distillation=DistillationSpec(weight=1.0, temperature=1.0),
        )
        base = prepare_base(SMALL, recipe, data, base_dir=tmp_path, cache_dir=tmp_path / "cache")
        with torch.no_grad():
            scores.append((base.model(images).softmax(1), teacher(images).softmax(1)))

    distances = [[float((student - teacher).abs().mean()) for _, teacher in scores] for student, _ in scores]
    assert distances[0][0] < 0.5 * distances[0][1]
    assert distances[1][1] < 0.5 * distances[1][0]
    assert len(list((tmp_path / "cache" / "base").glob("*.pt"))) == 2


def taught(tiny_spec: Path, teacher: str) -> Path:
    text = tiny_spec.read_text()
    tiny_spec.write_text(text.replace("base: {", f"base: {{distillation: {{}}, teacher: {{{teacher}}}, ", 1))
    return tiny_spec


def test_ids_name_the_teacher_by_its_content_and_not_by_its_place(tiny_spec: Path, tmp_path: Path) -> None:
    registry = MethodRegistry()
    ids = {}
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        kept(tmp_path / "made.pt", seed=seed)  # torch writes a file's own name into it
        (tmp_path / "made.pt").rename(tmp_path / name)
        spec = tiny_spec.with_name(f"{name}.yaml")
        spec.write_text(tiny_spec.read_text())
        loaded = load(str(taught(spec, f"name: resnet6, weights: {tmp_path / name}")), ())
        ids[name] = {trial.id for trial in plan_trials(loaded, registry)}

    assert ids["a.pt"] == ids["b.pt"]
    assert not ids["a.pt"] & ids["c.pt"]


def test_ids_name_the_code_of_a_teacher_that_is_the_users(tiny_spec: Path) -> None:
    kept(tiny_spec.with_name("t.pt"))
    taught(tiny_spec, "name: './nn.py:net', weights: t.pt")
    ids = []
    for text in ("def net(n_classes): ...", "def net(n_classes): return 1"):
        tiny_spec.with_name("nn.py").write_text(text)
        ids.append({trial.id for trial in plan_trials(load(str(tiny_spec), ()), MethodRegistry())})

    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        ("name: resnet6, weights: absent.pt", "there is no file"),
        ("name: resnet6, weights: other.pt", "instead of"),
        ("name: resnet77, weights: t.pt", "resnet77"),
        ("name: 'nn.py:net', weights: t.pt", "is code that would be run"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_by_check_at_its_place(
    teacher: str, complaint: str, tiny_spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_spec.parent)
    monkeypatch.setenv("HDAPBENCH_TRUST", "")
    tiny_spec.with_name("nn.py").write_text("raise SystemExit('ran')\n")
    kept(tiny_spec.with_name("t.pt"))
    kept(tiny_spec.with_name("other.pt"), n_classes=3)
    taught(tiny_spec, teacher)

    assert main(["check", str(tiny_spec)]) == 2

    error = capsys.readouterr().err
    assert "base.teacher" in error
    assert complaint in error
    assert "model.name" not in error
