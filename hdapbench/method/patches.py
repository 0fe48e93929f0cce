"""Functions, methods and global hooks that one method's code could replace for whatever runs after it. No torch."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

OWN = frozenset({"hdapbench", "hdapbench_methods"})
"""Packages whose constants are watched as well."""

WATCHED = (
    OWN
    | {
        "numpy",
        "torch",
        "torch_pruning",
        "torchvision",
        "scipy",
        "sklearn",
        "polars",
        "pydantic",
        "threadpoolctl",
        "PIL",
    }
    | (sys.stdlib_module_names - {"logging", "warnings", "linecache", "tracemalloc"})  # these are set up, not replaced
)
"""Packages whose code makes the numbers of every row, and reads and stores them."""

HOOKS = ("torch.nn.modules.module", "torch.optim.optimizer")
"""Modules whose global variables hold hooks on every network and optimizer."""

_ABSENT = object()


class Code:
    """Functions and classes of the watched packages as they stand now, our constants, and torch's global hooks.

    It holds what modules, classes and functions are made of, and copies of our constants alone.
    """

    def __init__(self) -> None:
        self._builtins = dict(builtins.__dict__)
        known = list(sys.modules.items())  # None stands for one that may not be imported
        self._modules = {name: module for name, module in known if module is not None and _is_watched(name)}
        self._owners: list[tuple[Any, dict[str, Any]]] = []
        seen: set[int] = set()
        for module in self._modules.values():
            content = dict(vars(module))
            self._owners.append((module, content))
            for value in content.values():
                # Not isinstance: some values of torch warn when their class is asked for.
                if issubclass(type(value), type) and id(value) not in seen and _is_watched(_module_of(value)):
                    seen.add(id(value))
                    self._owners.append((value, dict(vars(value))))
        functions = {
            id(found): found
            for _, content in self._owners
            for value in content.values()
            if type(found := value if type(value) is FunctionType else _function_in(value)) is FunctionType
        }
        self._functions = [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in functions.values()]
        self._constants = [
            (owner, name, value, _copied(value))
            for owner, content in self._owners
            if isinstance(owner, ModuleType) and _top(owner.__name__) in OWN
            for name, value in content.items()
            if name.isupper()
        ]
        self._hooks = [(hooks, dict(hooks)) for hooks in _global_hooks()]

    def restore(self) -> tuple[str, ...]:
        """Put back what was replaced; its names, such as ``torch.nn.functional.relu``."""
        found = self.restore_builtins()
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                found.append(f"the module {name}")
                sys.modules[name] = module
        for owner, name, value in self._replaced():
            found.append(f"{_name_of(owner)}.{name}")
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        found += self._exchanged()
        found += self._altered()
        for hooks, before in self._hooks:
            if dict(hooks) != before:
                found.append("torch's global hooks")
                hooks.clear()
                hooks.update(before)
        return tuple(dict.fromkeys(found))

    def restore_builtins(self) -> list[str]:
        """Put back python's own functions alone, by which all else is told and put back; their names."""
        now = builtins.__dict__
        found = [f"builtins.{name}" for name, value in self._builtins.items() if now.get(name) is not value]
        now.update(self._builtins)
        return found

    def _exchanged(self) -> list[str]:
        """Names of functions whose inside had been exchanged, which is put back."""
        found = []
        for function, code, defaults, keywords in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keywords
            ):
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keywords
                found.append(f"{function.__module__}.{function.__qualname__}")
        return found

    def _altered(self) -> list[str]:
        """Names of our constants that had been replaced, or whose content had, which are put back."""
        found = []
        for owner, name, value, before in self._constants:
            if vars(owner).get(name) is not value or not _equal(value, before):
                found.append(f"{_name_of(owner)}.{name}")
                _fill(value, before)
                setattr(owner, name, value)
        return found

    def _replaced(self) -> list[tuple[Any, str, Any]]:
        """Owner, name and former value of all code that others put something else in the place of.

        Packages change themselves too: torch.compile replaces functions of torch by new ones of its own.
        """
        changes = [(owner, *change) for owner, content in self._owners for change in _changes(owner, content)]
        if not changes:
            return []
        known = {id(value) for _, content in self._owners for value in content.values()}
        return [
            (owner, name, before)
            for owner, name, before in changes
            if id(new := vars(owner).get(name)) in known or _package_of(new) != _package_of(owner)
        ]


def _changes(owner: Any, before: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names of code that was replaced or removed, with what stood there; methods that now hide inherited ones."""
    now = vars(owner)
    found = [(name, value) for name, value in before.items() if now.get(name, _ABSENT) is not value and _is_code(value)]
    if not isinstance(owner, ModuleType) and len(now) > len(before):
        inherited = {name for base in owner.__mro__[1:] for name in vars(base)}
        found += [(name, _ABSENT) for name in set(now) - set(before) if name in inherited and _is_code(now[name])]
    return found


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, classmethod | staticmethod | property)


def _function_in(value: Any) -> Any:
    """Function behind a class method, a static method or a property."""
    if isinstance(value, classmethod | staticmethod):
        return value.__func__
    return value.fget if type(value) is property else value


def _copied(value: Any) -> Any:
    """Copy of a container or an array; the value itself where it cannot change."""
    return value.copy() if type(value) in (dict, list, set, np.ndarray) else value


def _equal(value: Any, before: Any) -> bool:
    if type(value) is np.ndarray:
        return value.shape == before.shape and bool((value == before).all())
    if type(value) is dict:
        return list(map(id, (*value, *value.values()))) == list(map(id, (*before, *before.values())))
    return value is before or value == before if type(value) in (list, set) else True


def _fill(value: Any, before: Any) -> None:
    """Give a container the content of before."""
    if type(value) is np.ndarray:
        value[...] = before
    elif type(value) is list:
        value[:] = before
    elif type(value) in (dict, set):
        value.clear()
        value.update(before)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_watched(module: str) -> bool:
    return _top(module) in WATCHED and not module.startswith("torch.distributed")  # not used; it alters itself


def _package_of(value: Any) -> str | None:
    """Package that a module, class, function or property was written in; None for what does not tell."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, classmethod | staticmethod):
        value = value.__func__
    if isinstance(value, ModuleType):
        name = value.__name__
    elif isinstance(value, FunctionType):
        name = str(value.__globals__.get("__name__"))
    else:
        name = _module_of(value) if isinstance(value, type) else ""
    return name.partition(".")[0] or None


def _module_of(cls: type) -> str:
    name = vars(cls).get("__module__", "")
    return name if isinstance(name, str) else ""


def _name_of(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else f"{_module_of(owner)}.{owner.__qualname__}"


def _global_hooks() -> Iterator[dict[Any, Any]]:
    for name in HOOKS:
        module = sys.modules.get(name)
        for variable, value in vars(module).items() if module else ():
            if variable.startswith("_global") and isinstance(value, dict):
                yield value
