"""Models from code that the user names as ``module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.files import expand_path
from hdapbench.spec import did_you_mean

ULTRALYTICS = "ultralytics"
OF_PACKAGES = frozenset({"torchvision", ULTRALYTICS})
"""What stands before the colon of names that are looked up in a package."""


def build_user_model(
    name: str, *, n_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any], base_dir: Path
) -> nn.Module:
    """Model that a callable of the user's own code returns.

    Of ``n_classes``, ``num_classes``, ``in_channels`` and ``input_shape`` the callable gets those that its signature
    names, unless ``arguments`` sets them.

    Parameters
    ----------
    name
        ``package.module:callable``, or ``./file.py:callable`` relative to ``base_dir``.

    Raises
    ------
    ModelError
        When the code cannot be imported, fails, or returns something else than a module.
    """
    source, _, attribute = name.rpartition(":")
    if source.partition(".")[0] in sys.stdlib_module_names:
        raise ModelError(f"model '{name}': '{source}' belongs to Python, which has no networks")
    if not source or not attribute:
        raise ModelError(f"model '{name}': write package.module:callable or ./file.py:callable")
    module = _import_source(source, attribute, base_dir)
    builder = getattr(module, attribute, None)
    if not callable(builder):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"model '{name}': '{source}' has no callable '{attribute}'{did_you_mean(attribute, names)}")
    known = {
        "n_classes": n_classes,
        "num_classes": n_classes,
        "in_channels": input_shape[0],
        "input_shape": input_shape,
    }
    accepted = _parameter_names(builder)
    filled = {key: value for key, value in known.items() if key in accepted} | arguments
    try:
        model = builder(**filled)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ModelError(f"model '{name}' failed with {_said(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model '{name}' returned a {type(model).__name__}, not a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule) or type(model).__name__ == "OptimizedModule":
        raise ModelError(f"model '{name}' returned a compiled network; return the network itself")
    return model.module if isinstance(model, nn.DataParallel) else model


def _said(error: BaseException) -> str:
    """Exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def names_code(name: str) -> bool:
    """Whether building a model of this name imports code that the name chooses."""
    source, separator, _ = name.partition(":")
    return bool(separator) and source not in OF_PACKAGES


def refuse_code(name: str, *, told_by: Path) -> None:
    """Refuse a model that a file names, unless it is one of a package that is known.

    Raises
    ------
    ModelError
        When building it would run code.
    """
    if names_code(name):
        raise ModelError(
            f"'{told_by}' names the model '{name}', which is code that would be run; if you trust the file, add --trust"
        )


def _import_source(source: str, attribute: str, base_dir: Path) -> ModuleType:
    try:
        if source.endswith(".py"):
            return _import_file(base_dir / expand_path(source))
        return importlib.import_module(source)
    except ModelError:
        raise
    except ModuleNotFoundError as error:
        beside = f"{source.replace('.', '/')}.py"
        hint = f"; for the file beside the spec, write ./{beside}:{attribute}" if (base_dir / beside).is_file() else ""
        raise ModelError(f"'{source}' cannot be imported: {_said(error)}{hint}") from error
    except (Exception, SystemExit) as error:  # importing runs the user's code, which may raise anything
        raise ModelError(f"'{source}' cannot be imported: {_said(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    name = f"hdapbench_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"'{path}' cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _parameter_names(builder: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(builder).parameters)
    except ValueError:  # some builtins tell no signature
        return set()
