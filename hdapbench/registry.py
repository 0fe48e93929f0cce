"""Names -> method classes: entry points and files, imported only when a spec names them. Imports no torch."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hdapbench.errors import MethodError
from hdapbench.method import Method
from hdapbench.spec import did_you_mean

GROUP = "hdapbench.methods"
"""Entry point group under which packages offer methods."""


class MethodRegistry:
    """All methods that can be named: those of installed packages, and those of files that the user adds."""

    def __init__(self) -> None:
        self._entry_points: dict[str, list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            self._entry_points.setdefault(entry_point.name, []).append(entry_point)
        self._classes: dict[str, tuple[type[Method], str]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of all methods, sorted; nothing is imported."""
        return tuple(sorted({*self._entry_points, *self._classes}))

    def origin(self, name: str) -> str:
        """Where a method comes from: ``module:class`` or a file."""
        if name in self._classes:
            return self._classes[name][1]
        return ", ".join(entry_point.value for entry_point in self._entry_points.get(name, []))

    def get(self, name: str) -> type[Method]:
        """Class of a method.

        Raises
        ------
        MethodError
            When no method has this name, two have it, or its code cannot be imported.
        """
        if name in self._classes:
            return self._classes[name][0]
        found = self._entry_points.get(name)
        if not found:
            raise MethodError(f"unknown method '{name}'{did_you_mean(name, self.names())}")
        values = {entry_point.value for entry_point in found}
        if len(values) > 1:
            raise MethodError(f"two packages offer a method '{name}': {' and '.join(sorted(values))}; uninstall one")
        try:
            loaded = found[0].load()
        except Exception as error:
            raise MethodError(f"method '{name}' ({found[0].value}) cannot be imported: {_where(error)}") from error
        method = _checked(loaded, found[0].value)
        if method.name != name:
            raise MethodError(f"{found[0].value} is offered as '{name}' and calls itself '{method.name}'; use one name")
        self._classes[name] = (method, found[0].value)
        return method

    def add_file(self, path: Path) -> tuple[str, ...]:
        """Names of the methods in a Python file, which is executed and whose methods are added.

        Raises
        ------
        MethodError
            When the file cannot be executed, holds no method, or one whose name is taken.
        """
        if not path.is_file():
            raise MethodError(f"there is no method file '{path}'")
        source = str(path.resolve())
        module_spec = importlib.util.spec_from_file_location(f"hdapbench_plugin_{path.stem}", path)
        if module_spec is None or module_spec.loader is None:
            raise MethodError(f"'{path}' is not a Python file")
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_spec.name] = module
        try:
            module_spec.loader.exec_module(module)
        except Exception as error:
            raise MethodError(f"'{path}' cannot be executed: {_where(error)}") from error
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
        ]
        if not classes:
            raise MethodError(f"'{path}' defines no subclass of hdapbench.method.Method")
        for found in classes:
            method = _checked(found, source)
            known = self.origin(method.name)
            if known and known != source:
                raise MethodError(f"two methods are called '{method.name}': {known} and {source}; rename one")
            self._classes[method.name] = (method, source)
        return tuple(found.name for found in classes)

    def resolve(self, name: str, parameters: Mapping[str, Any]) -> Method:
        """Method with these parameters, defaults filled in.

        Raises
        ------
        MethodError
            When the method is unknown or a parameter is wrong.
        """
        problems = self.parameter_problems(name, parameters)
        if problems:
            raise MethodError("\n".join(f"method '{name}', {field}: {message}" for field, message in problems))
        return self.get(name)(**parameters)

    def parameter_problems(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
        """(Parameter, what is wrong with it) for every wrong parameter of a known method."""
        method = self.get(name)
        try:
            method(**parameters)
        except ValidationError as error:
            return [
                (str(details["loc"][0]) if details["loc"] else "", _message(details, method))
                for details in error.errors()
            ]
        return []


def _checked(found: object, origin: str) -> type[Method]:
    """The class, when it is a usable method."""
    if not isinstance(found, type) or not issubclass(found, Method):
        raise MethodError(f"{origin} is not a subclass of hdapbench.method.Method")
    name = getattr(found, "name", None)
    if not isinstance(name, str) or not name:
        raise MethodError(f'{origin}: {found.__name__} has no name; write: name = "my-method"')
    if "compress" in found.__abstractmethods__:
        raise MethodError(f"{origin}: {found.__name__} does not define compress(self, problem)")
    return found


def _message(details: Any, method: type[Method]) -> str:
    if details["type"] == "extra_forbidden":
        name = str(details["loc"][0])
        return f"unknown parameter '{name}'{did_you_mean(name, method.model_fields)}"
    return f"{details['msg']} (here: {details['input']!r})"


def _where(error: BaseException) -> str:
    """Exception with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" ({Path(error.filename or '').name}:{error.lineno})"
    return f"{type(error).__name__}: {error}{place}"
