from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.models import build_model
from hdapbench.spec import ModelSpec

CODE = """
from torch import nn

def tiny(num_classes, in_channels, width=4):
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.Flatten(), nn.LazyLinear(num_classes))

def broken():
    raise RuntimeError("no luck")

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


def build(name: str, folder: Path, **arguments: object) -> nn.Module:
    spec = ModelSpec(name=name, input_shape=(2, 8, 8), arguments=arguments)
    return build_model(spec, n_classes=6, base_dir=folder)


def test_a_callable_of_a_file_gets_classes_channels_and_arguments(folder):
    model = build("./mine.py:tiny", folder, width=5)

    assert (model[0].in_channels, model[0].out_channels, model[2].out_features) == (2, 5, 6)


def test_a_callable_of_an_importable_module_is_called():
    with pytest.raises(ModelError, match="returned a OrderedDict"):
        build("torch.nn.modules.container:OrderedDict", Path())

    with pytest.raises(ModelError, match="'builtins' belongs to Python, which has no networks"):
        build("builtins:dict", Path())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./mine.py:tinny", "has no callable 'tinny'; did you mean 'tiny'"),
        ("./mine.py:broken", "failed with RuntimeError: no luck"),
        ("./mine.py:number", "returned a int"),
        ("./absent.py:tiny", "there is no file"),
        ("no_such_package_of_anybody:tiny", "cannot be imported: ModuleNotFoundError"),
        ("./mine.py:", r"write package\.module:callable"),
    ],
)
def test_what_is_wrong_with_user_code_is_said_in_one_error(folder, name, message):
    with pytest.raises(ModelError, match=message):
        build(name, folder)


def test_arguments_that_the_callable_does_not_take_are_named(folder):
    with pytest.raises(ModelError, match="depth"):
        build("./mine.py:tiny", folder, depth=2)
