from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.models import build_model
from hdapbench.spec import ModelSpec
from hdapbench.spec.code import code_hash

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


def test_a_file_imports_modules_and_packages_beside_it_whatever_is_called_alike_elsewhere(tmp_path):
    for number, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        (folder / "blocks").mkdir(parents=True)
        (folder / "layers.py").write_text(f"WIDTH = {number + 3}\n")
        (folder / "blocks/__init__.py").write_text("")
        (folder / "blocks/conv.py").write_text("from torch import nn\nfrom layers import WIDTH\n")
        (folder / "net.py").write_text(
            "from blocks.conv import nn, WIDTH\n\ndef net(n_classes):\n    import layers\n"
            "    return nn.Sequential(nn.Conv2d(2, layers.WIDTH, 1), nn.Flatten(), nn.Linear(WIDTH * 64, n_classes))\n"
        )
    before = (list(sys.path), {"layers", "blocks"} & set(sys.modules))

    widths = [build("./net.py:net", tmp_path / name)[0].out_channels for name in "aba"]

    assert widths == [3, 4, 3]
    assert (list(sys.path), {"layers", "blocks"} & set(sys.modules)) == before


def test_a_file_of_a_package_imports_relatively_and_its_hash_covers_what_it_imports(tmp_path):
    package = tmp_path / "mine"
    (package / "nets").mkdir(parents=True)
    for file in (package / "__init__.py", package / "nets/__init__.py"):
        file.write_text("")
    (package / "layers.py").write_text("WIDTH = 3\n")
    (package / "nets/net.py").write_text(
        "from torch import nn\nfrom ..layers import WIDTH\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Conv2d(2, WIDTH, 1), nn.Flatten(), nn.Linear(WIDTH * 64, num_classes))\n"
    )
    name = "./mine/nets/net.py:Net"

    assert build(name, tmp_path)[0].out_channels == 3
    before = code_hash(name, tmp_path)
    (package / "layers.py").write_text("WIDTH = 15\n")
    assert code_hash(name, tmp_path) != before
    assert build(name, tmp_path)[0].out_channels == 15


@pytest.mark.parametrize(
    ("signature", "used"),
    [
        ("**kwargs", "kwargs['num_classes']"),
        ("num_classes=2, **kwargs", "num_classes"),
        ("**kwargs", "inner(**kwargs)"),
    ],
)
def test_a_callable_of_any_keywords_gets_classes_by_the_word_that_it_takes(tmp_path, signature, used):
    (tmp_path / "mine.py").write_text(
        f"from torch import nn\n\ndef inner(n_classes):\n    return n_classes\n\ndef net({signature}):\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear(128, {used}))\n"
    )

    assert build("./mine.py:net", tmp_path)[1].out_features == 6


def test_the_spec_says_which_output_holds_the_scores(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, n_classes):\n        super().__init__()\n"
        "        self.first, self.second = (nn.Linear(128, n_classes) for _ in range(2))\n\n"
        "    def forward(self, x):\n        x = x.flatten(1)\n"
        "        return {'heads': [self.first(x), self.second(x)]}\n"
    )
    x = torch.randn(3, 2, 8, 8)
    spec = ModelSpec(name="./mine.py:Net", input_shape=(2, 8, 8), output="heads.1")

    model = build_model(spec, n_classes=6, base_dir=tmp_path)

    assert torch.equal(model(x), model.second(x.flatten(1)))
    with pytest.raises(ModelError, match=r"have no 'head'; did you mean 'heads.\d'\? Known: heads.0, heads.1"):
        build_model(spec.model_copy(update={"output": "head"}), n_classes=6, base_dir=tmp_path)
