"""Models from code that the user names as ``module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.files import expand_path
from hdapbench.spec import did_you_mean
from hdapbench.spec.code import OF_PACKAGES, package_root

CLASSES, CHANNELS = ("num_classes", "n_classes"), ("in_channels", "in_chans")
"""Words by which callables take the number of classes and of the input's channels."""


OURS = "hdapbench_user_"
"""What the names of modules of users' files begin with, which stay: dataclasses and pickling look them up."""


def build_user_model(
    name: str, *, n_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any], base_dir: Path
) -> nn.Module:
    """Model that a callable of the user's own code returns.

    Of ``n_classes``, ``num_classes``, ``in_channels``, ``in_chans`` and ``input_shape`` the callable gets those that
    its signature names, unless ``arguments`` sets them. One with ``**kwargs`` that names no classes gets
    ``num_classes``, or ``n_classes`` or neither where what it calls does not take the other. A file can import modules
    and packages beside it.

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
    with _importable(base_dir / expand_path(source) if source.endswith(".py") else None):
        return _called(name, source, attribute, n_classes, input_shape, arguments, base_dir)


def _called(
    name: str,
    source: str,
    attribute: str,
    n_classes: int,
    input_shape: tuple[int, int, int],
    arguments: dict[str, Any],
    base_dir: Path,
) -> nn.Module:
    """What the named callable returns."""
    module = _import_source(source, attribute, base_dir)
    builder = getattr(module, attribute, None)
    if not callable(builder):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"model '{name}': '{source}' has no callable '{attribute}'{did_you_mean(attribute, names)}")
    known = dict.fromkeys(CLASSES, n_classes) | dict.fromkeys(CHANNELS, input_shape[0]) | {"input_shape": input_shape}
    accepted, takes_any = _parameter_names(builder)
    filled = {key: value for key, value in known.items() if key in accepted} | arguments
    unsaid = takes_any and not set(CLASSES) & set(filled)
    try:
        model = _with_classes(builder, filled, n_classes) if unsaid else builder(**filled)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ModelError(f"model '{name}' failed with {_said(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model '{name}' returned a {type(model).__name__}, not a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule) or type(model).__name__ == "OptimizedModule":
        raise ModelError(f"model '{name}' returned a compiled network; return the network itself")
    return model.module if isinstance(model, nn.DataParallel) else model


def _with_classes(builder: Callable[..., Any], arguments: dict[str, Any], n_classes: int) -> Any:
    """What a callable of any keywords returns for the first word for classes that it takes, or for none."""
    for word in CLASSES:
        try:
            return builder(**arguments, **{word: n_classes})
        except TypeError as error:
            if f"'{word}'" not in str(error):
                raise
    return builder(**arguments)


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


@contextmanager
def _importable(path: Path | None) -> Iterator[None]:
    """Let a file import what lies beside it, or around its package; afterwards no name stands for it any more.

    Files of two folders may be called alike: what others imported under such a name is put aside meanwhile. What is
    installed is not.
    """
    root = package_root(path).resolve() if path is not None else None
    if root is None or str(root) in map(os.path.realpath, sys.path):
        yield
        return
    installed = [Path(place).resolve() for place in sysconfig.get_paths().values()]
    before = dict(sys.modules)
    for name, module in before.items():
        file = _file_of(module)
        beside = root / name.partition(".")[0]
        hides = beside.is_dir() or beside.with_suffix(".py").is_file()
        if hides and file is not None and not any(file.is_relative_to(place) for place in (root, *installed)):
            del sys.modules[name]
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name, module in list(sys.modules.items()):
            file = _file_of(module)
            if name not in before and file is not None and file.is_relative_to(root) and not name.startswith(OURS):
                del sys.modules[name]
        sys.modules.update(before)


def _file_of(module: ModuleType) -> Path | None:
    file = vars(module).get("__file__")
    return Path(file).resolve() if isinstance(file, str) else None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    root = package_root(path)
    if root != path.parent:
        return importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    name = f"{OURS}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"'{path}' cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _parameter_names(builder: Callable[..., Any]) -> tuple[set[str], bool]:
    """Names that a callable takes, and whether it takes any other."""
    try:
        parameters = inspect.signature(builder).parameters
    except ValueError:  # some builtins tell no signature
        return set(), False
    return set(parameters), any(value.kind is value.VAR_KEYWORD for value in parameters.values())
