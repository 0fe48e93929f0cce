"""Names -> method classes: entry points and files, imported only when a spec names them. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import ValidationError

from hdapbench.errors import BrokenMethodError, MethodError
from hdapbench.method import Method
from hdapbench.spec import TargetKind, did_you_mean
from hdapbench.trial import DENSE

GROUP = "hdapbench.methods"
"""Entry point group under which packages offer methods."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that read the same in YAML, in tables and on the command line."""


class MethodRegistry:
    """All methods that can be named: those of installed packages, and those of files that the user adds.

    Attributes
    ----------
    broken_files
        Method file that cannot be used -> why.
    """

    def __init__(self) -> None:
        self._entry_points: dict[str, list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            self._entry_points.setdefault(entry_point.name, []).append(entry_point)
        self._classes: dict[str, tuple[type[Method], str]] = {}
        self.broken_files: dict[str, str] = {}

    def names(self) -> tuple[str, ...]:
        """Names of all methods, sorted; nothing is imported."""
        return tuple(sorted({*self._entry_points, *self._classes}))

    def origin(self, name: str) -> str:
        """Where a method comes from: ``package (module:class)``, of all packages that offer it, or a file."""
        if name in self._entry_points:
            return " and ".join(sorted({_offer(point) for point in self._entry_points[name]}))
        return self._classes[name][1] if name in self._classes else ""

    def package(self, name: str) -> str:
        """Distribution whose extras a method's ``extra`` means: the one that offers it; of files, hdapbench."""
        points = self._entry_points.get(name, [])
        return next((point.dist.name for point in points if point.dist is not None), "hdapbench")

    def get(self, name: str) -> type[Method]:
        """Class of a method.

        Raises
        ------
        MethodError
            When no method has this name, or two have it.
        BrokenMethodError
            When its code cannot be used; or, for an unknown name, when a method file cannot, which may hold it.
        """
        if name in self._classes:
            return self._classes[name][0]
        found = self._entry_points.get(name)
        if not found:
            if self.broken_files:
                reasons = "; ".join(self.broken_files.values())
                raise BrokenMethodError(f"no method '{name}' could be loaded: {reasons}")
            raise MethodError(f"unknown method '{name}'{did_you_mean(name, self.names())}")
        if len({_offer(point) for point in found}) > 1:
            raise MethodError(f"two packages offer a method '{name}': {self.origin(name)}; uninstall one")
        value = found[0].value
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, whatever a module prints
                loaded = found[0].load()
        except (Exception, SystemExit) as error:
            raise BrokenMethodError(f"method '{name}' ({value}) cannot be imported: {_where(error)}") from error
        method = _checked(loaded, value)
        if method.name != name:
            raise BrokenMethodError(f"{value} is offered as '{name}' and calls itself '{method.name}'; use one name")
        self._classes[name] = (method, value)
        return method

    def add_file(self, path: Path) -> tuple[str, ...]:
        """Names of the methods in a Python file, which is executed and whose methods are added.

        Raises
        ------
        MethodError
            When there is no such file, or it holds a method whose name is taken.
        BrokenMethodError
            When the file cannot be executed, or holds no usable method.
        """
        if not path.is_file():
            raise MethodError(f"there is no method file '{path}'")
        source = str(path.resolve())
        module = _executed(path)
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
        ]
        methods: dict[str, type[Method]] = {}
        for found in dict.fromkeys(classes):
            if "compress" in found.__abstractmethods__ and not isinstance(getattr(found, "name", None), str):
                continue  # a base that the file's methods share
            method = _checked(found, source)
            twin = methods.setdefault(method.name, method)
            if twin is not method:
                names = f"{twin.__name__} and {method.__name__}"
                raise MethodError(f"two methods are called '{method.name}': {names} in {source}; rename one")
            known = self.origin(method.name)
            if known and known != source:
                raise MethodError(f"two methods are called '{method.name}': {known} and {source}; rename one")
        if not methods:
            hint = "; they miss name and compress" if classes else ""
            raise BrokenMethodError(f"'{path}' defines no subclass of hdapbench.method.Method that can be used{hint}")
        self._classes.update({name: (method, source) for name, method in methods.items()})
        return tuple(methods)

    def try_file(self, path: Path) -> tuple[str, ...]:
        """Names as from `add_file`; of a file that cannot be used its own, and the reason is kept for the rows.

        Raises
        ------
        MethodError
            When there is no such file, or it holds a method whose name is taken.
        """
        try:
            return self.add_file(path)
        except BrokenMethodError as error:
            self.broken_files[str(path)] = str(error)
            return (path.name if path.stem in self.names() else path.stem,)

    def why_broken(self, name: str) -> str | None:
        """Why a method cannot be used although its name is known, or None."""
        try:
            self.get(name)
        except BrokenMethodError as error:
            return str(error)
        except MethodError:
            return None
        return None

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
        except Exception as error:  # noqa: BLE001 - a validator of a plug-in raises what it likes
            return [("", f"the parameters cannot be checked: {_where(error)}")]
        return []


def _offer(point: EntryPoint) -> str:
    """Package and class of an entry point."""
    return f"{point.dist.name} {point.dist.version} ({point.value})" if point.dist is not None else point.value


def _executed(path: Path) -> ModuleType:
    """Module of a method file, executed; two files of one name are two modules.

    Raises
    ------
    BrokenMethodError
        When it cannot be executed.
    """
    place = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
    name = f"hdapbench_plugin_{path.stem}_{place}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise BrokenMethodError(f"'{path}' is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BrokenMethodError(f"'{path}' cannot be executed: {_where(error)}") from error
    return module


def _checked(found: object, origin: str) -> type[Method]:
    """The class, when it is a usable method."""
    if not isinstance(found, type) or not issubclass(found, Method):
        raise BrokenMethodError(f"{origin} is not a subclass of hdapbench.method.Method")
    name = getattr(found, "name", None)
    if not isinstance(name, str) or not name:
        raise BrokenMethodError(f'{origin}: {found.__name__} has no name; write: name = "my-method"')
    if name == DENSE or not NAME.fullmatch(name):
        raise BrokenMethodError(
            f"{origin}: {found.__name__} cannot be called '{name}'; names are letters, digits, '.', '_' and '-', "
            f"and '{DENSE}' is the model before compression"
        )
    if "compress" in found.__abstractmethods__:
        raise BrokenMethodError(f"{origin}: {found.__name__} does not define compress(self, problem)")
    known = frozenset(get_args(TargetKind))
    if not isinstance(found.targets, frozenset) or not found.targets or not found.targets <= known:
        raise BrokenMethodError(
            f"{origin}: targets of {found.__name__} is {found.targets!r}; "
            f"write: targets = frozenset({{{', '.join(map(repr, sorted(known)))}}}), or some of them"
        )
    if found.extra is not None and not isinstance(found.extra, str):
        raise BrokenMethodError(
            f"{origin}: extra of {found.__name__} is {found.extra!r}; write the name of a pip extra"
        )
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
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}:{error.lineno})"
    return f"{type(error).__name__}: {error}{place}"
