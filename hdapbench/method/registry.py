"""Names -> method classes: entry points and files, imported only when a spec names them. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import ValidationError

from hdapbench.errors import BrokenMethodError, MethodError, said
from hdapbench.method.base import Method
from hdapbench.method.class_code import class_code
from hdapbench.method.isolation import kept_process, kept_settings, stdout_kept_free
from hdapbench.spec import TargetKind, did_you_mean
from hdapbench.spec.code import plugin_code
from hdapbench.trial import DENSE

GROUP = "hdapbench.methods"
"""Entry point group under which packages offer methods."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that read the same in YAML, in tables and on the command line."""

FILE_PREFIX = "hdapbench_plugin_"
"""How modules of method files are called."""

INIT = "__init__.py"


class MethodRegistry:
    """All methods that can be named: those of installed packages, and those of files that the user adds.

    Parameters
    ----------
    before_code
        Called before code of others than this distribution is imported: what is imported already cannot be replaced.

    Attributes
    ----------
    broken_files
        Method file that cannot be used -> why.
    added
        Files, whether they can be used or not, and classes that were added, in order.
    """

    def __init__(self, before_code: Callable[[], object] = lambda: None) -> None:
        self._before_code = before_code
        self._entry_points: dict[str, list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            self._entry_points.setdefault(entry_point.name, []).append(entry_point)
        self._classes: dict[str, tuple[type[Method], str]] = {}
        self._files: dict[str, Path] = {}
        self._codes: dict[str, str] = {}
        self.broken_files: dict[str, str] = {}
        self.added: list[Path | type[Method]] = []

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

    def code(self, name: str) -> str | None:
        """Sixteen hexadecimal digits of a method's code, other ones once it is edited; None for methods that ship.

        Of a name that no usable method has: of the files that cannot be used, one of which may hold it.
        """
        if name in self._codes:
            return self._codes[name]
        if name in self._entry_points:
            return plugin_code(GROUP, name)
        paths = [self._files[name]] if name in self._files else sorted(map(Path, self.broken_files))
        files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16] if files else None

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
        foreign = self.package(name) != "hdapbench"
        if foreign:
            self._before_code()
        try:
            with kept_process() if foreign else kept_settings(), stdout_kept_free():  # looking at all code takes long
                loaded = found[0].load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            package = value.partition(":")[0].partition(".")[0]
            raise BrokenMethodError(f"method '{name}' ({value}) cannot be imported: {where(error, package)}") from error
        method = _checked(loaded, value)
        if method.name != name:
            raise BrokenMethodError(f"{value} is offered as '{name}' and calls itself '{method.name}'; use one name")
        self._classes[name] = (method, value)
        return method

    def add_file(self, path: Path) -> tuple[str, ...]:
        """Names of the methods in a Python file or a folder with ``__init__.py``, which is executed; they are added.

        Raises
        ------
        MethodError
            When there is no such file, or it holds a method whose name is taken.
        BrokenMethodError
            When the file cannot be executed, or holds no usable method.
        """
        if path.is_dir() and not (path / INIT).is_file():
            raise MethodError(f"the folder '{path}' has no {INIT}, which would define or import its methods")
        if not path.exists():
            raise MethodError(f"there is no method file '{path}'")
        source = str(path.resolve())
        self._before_code()
        self.added.append(path)
        module = _executed(path)
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Method)
            and f"{value.__module__}.".startswith(f"{module.__name__}.")
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
        self._files.update(dict.fromkeys(methods, path))
        return tuple(methods)

    def add_class(self, method: type[Method]) -> str:
        """Name of a method whose class is at hand, which is added; an installed one is the one of that name.

        Raises
        ------
        MethodError
            When its name is that of another method, or its code cannot be read: trials are named by it.
        BrokenMethodError
            When it is no usable method.
        """
        origin = f"{method.__module__}:{method.__qualname__}"
        name = _checked(method, origin).name
        if not self.origin(name):
            self._codes[name] = class_code(method)
            self.added.append(method)
            self._classes[name] = (method, origin)
        elif self.get(name) is not method:
            raise MethodError(f"two methods are called '{name}': {self.origin(name)} and {origin}; rename one")
        return name

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
            return (path.name if path.stem in {*self.names(), DENSE} else path.stem,)

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
            return [("", f"the parameters cannot be checked: {where(error)}")]
        return []


def _offer(point: EntryPoint) -> str:
    """Package and class of an entry point."""
    return f"{point.dist.name} {point.dist.version} ({point.value})" if point.dist is not None else point.value


def _executed(path: Path) -> ModuleType:
    """Module of a method file or folder, executed; two files of one name are two modules.

    Raises
    ------
    BrokenMethodError
        When it cannot be executed.
    """
    place = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
    name = f"{FILE_PREFIX}{path.stem}_{place}"
    inside = [str(path.resolve())] if path.is_dir() else None
    module_spec = importlib.util.spec_from_file_location(
        name, path / INIT if inside else path, submodule_search_locations=inside
    )
    if module_spec is None or module_spec.loader is None:
        raise BrokenMethodError(f"'{path}' is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with kept_process(), stdout_kept_free():
            module_spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        for known in [known for known in sys.modules if f"{known}.".startswith(f"{name}.")]:
            del sys.modules[known]
        hint = ""
        if isinstance(error, ModuleNotFoundError) and (path.parent / f"{error.name}.py").is_file() and not inside:
            hint = f"; a method file cannot import '{error.name}.py' beside it: make both a folder with an {INIT}"
        raise BrokenMethodError(f"'{path}' cannot be executed: {where(error, name)}{hint}") from error
    return module


def is_path(text: str) -> bool:
    """Whether what stands for a method is a file or a folder, and not a name."""
    return text.endswith(".py") or "/" in text or os.sep in text


def _checked(found: object, origin: str) -> type[Method]:
    """The class, when it is a usable method."""
    if not isinstance(found, type) or not issubclass(found, Method):
        raise BrokenMethodError(f"{origin} is not a subclass of hdapbench.method.Method")
    name = getattr(found, "name", None)
    if "name" in found.model_fields:
        raise BrokenMethodError(f'{origin}: the name of {found.__name__} is a parameter; write: name = "my-method"')
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
    if details["type"] == "missing":
        return "has no default; a spec gives it under 'parameters' of its entry in 'methods'"
    return f"{details['msg']} (here: {details['input']!r})"


def where(error: BaseException, package: str | None = None) -> str:
    """Exception in one line, with the last file and line of a package that it passed through, or that raised it."""
    text = said(error)
    if isinstance(error, SyntaxError):
        text, file, line = str(error.msg), Path(error.filename or "").name, error.lineno or 0
    else:
        file, line = line_of(error, package)
    return f"{type(error).__name__}: {text}" + (f" ({file}:{line})" if file else "")


def line_of(error: BaseException, package: str | None = None) -> tuple[str, int]:
    """Name of a file and line: the last of a package that an exception passed through, else the one that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in frames]
    own = [
        found
        for found, module in zip(frames, modules, strict=True)
        if package is not None and (module == package or module.startswith(f"{package}."))
    ]
    if not frames:
        return "", 0
    frame, line = (own or frames)[-1]
    return Path(frame.f_code.co_filename).name, line


def package_of(method: type[Method]) -> str:
    """Module of a method's file, or the package that it belongs to: where its own code is."""
    module = method.__module__
    return module if module.startswith(FILE_PREFIX) else module.partition(".")[0]
