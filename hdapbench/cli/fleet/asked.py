"""Which model an action of ``hdapbench fleet`` times: that of its options, or of the spec that it was given."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hdapbench.cli.options import DEFAULT_WORKSPACE, whole_number
from hdapbench.errors import FleetError

if TYPE_CHECKING:
    from hdapbench.spec import ModelSpec

DEFAULT_MODEL = "torchvision:resnet50"
DEFAULT_CLASSES = 1000


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, ``--input-shape`` and ``--classes``."""
    parser.add_argument(
        "--model", default=None, metavar="NAME", help=f"model to time (default: the spec's, or {DEFAULT_MODEL})"
    )
    parser.add_argument(
        "--input-shape", default=None, metavar="C,H,W", help="channels, height and width (default: 3,224,224)"
    )
    parser.add_argument(
        "--classes", type=whole_number, default=None, metavar="N", help="outputs (default: the data's, or 1000)"
    )


def model_of(arguments: argparse.Namespace) -> tuple[ModelSpec, int]:
    """The model of the command line, else that of the spec that the file is, or ResNet50; and its number of classes.

    Raises
    ------
    FleetError
        When the input shape is not three whole numbers, or the spec names code as its model.
    SpecError
        When the file is a spec with mistakes.
    """
    from hdapbench.errors import ModelError
    from hdapbench.models.user_code import refuse_code
    from hdapbench.run.inspection import count_classes
    from hdapbench.run.workspace import Workspace
    from hdapbench.spec import load
    from hdapbench.spec.document import read_document

    path: Path = arguments.file
    asked = (arguments.model, arguments.input_shape) != (None, None)
    if asked or path.suffix not in (".yaml", ".yml") or "model" not in read_document(path).values:
        return _model_of_options(arguments), arguments.classes or DEFAULT_CLASSES
    loaded = load(path)
    model = loaded.spec.model.model_copy(update={"weights": None})
    try:
        refuse_code(model.name, told_by=path)
    except ModelError:
        raise FleetError(
            f"'{path}' names code as its model: name it yourself, with --model {model.name} and --input-shape "
            f"{','.join(map(str, model.input_shape))}"
        ) from None
    return model, arguments.classes or count_classes(loaded, cache_dir=Workspace(DEFAULT_WORKSPACE).cache)[0]


def _model_of_options(arguments: argparse.Namespace) -> ModelSpec:
    from hdapbench.spec import ModelSpec

    shape = [3, 224, 224]
    if arguments.input_shape is not None:
        try:
            shape = [int(part) for part in arguments.input_shape.replace("x", ",").split(",")]
        except ValueError:
            shape = []
        if len(shape) != 3 or min(shape) < 1:
            raise FleetError(
                f"--input-shape {arguments.input_shape}: write channels, height and width, such as 3,32,32"
            )
    return ModelSpec(name=arguments.model or DEFAULT_MODEL, input_shape=(shape[0], shape[1], shape[2]))
