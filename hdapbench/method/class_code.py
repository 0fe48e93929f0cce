"""Code of a method's class that is at hand, in a module or a notebook: trials are named by it. Imports no torch."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import linecache
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from hdapbench.errors import MethodError
from hdapbench.method.base import Method
from hdapbench.spec.code import code_hash

Defined = type | FunctionType


def class_code(method: type[Method]) -> str:
    """Sixteen hexadecimal digits of a class's code, other ones once it is edited.

    Of a class in a file it is that file, and what it imports from beside it; of one in a notebook its text, with that
    of the functions, classes and plain values of the notebook that it uses. Classes that it inherits from count too.

    Raises
    ------
    MethodError
        When the text cannot be read.
    """
    bases = [base for base in method.__mro__ if issubclass(base, Method) and base is not Method]
    seen: dict[str, str] = {}
    for base in bases:
        _add(base, base.__qualname__, seen)
    return hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()[:16]


def _add(found: Defined, name: str, seen: dict[str, str]) -> None:
    """Add the code of a class or function, and of what it uses, to what was seen: name -> text or hash."""
    key = f"{found.__module__}:{name}"
    if key in seen:
        return
    functions = _functions(found)
    file = functions[0].__code__.co_filename if functions else _file_of(found)
    if Path(file).is_file():
        in_module = None if found.__module__ == "__main__" else code_hash(key, Path())
        seen[key] = in_module or code_hash(f"{file}:{found.__name__}", Path()) or _digest(Path(file))
        return
    node = _definition(found, file)
    seen[key] = ast.unparse(node)
    names = functions[0].__globals__ if functions else {}
    for used in sorted({part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & names.keys()):
        _add_value(used, names[used], names, seen)


def _add_value(name: str, value: Any, names: Mapping[str, Any], seen: dict[str, str]) -> None:
    """Add what a notebook's name stands for: its own code, or a plain value; what is imported has its version."""
    if isinstance(value, Defined):
        if value.__module__ == names.get("__name__"):
            _add(value, name, seen)
        return
    try:
        seen[name] = json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return


def _functions(found: Defined) -> list[FunctionType]:
    """Functions that a class defines itself, in order; of a function that function."""
    inner = [found] if isinstance(found, FunctionType) else vars(found).values()
    plain = [inspect.unwrap(getattr(value, "__func__", value)) for value in inner if callable(value)]
    return [value for value in plain if isinstance(value, FunctionType) and value.__module__ == found.__module__]


def _file_of(found: Defined) -> str:
    try:
        return inspect.getfile(found)
    except (TypeError, OSError):
        return ""


def _definition(found: Defined, file: str) -> ast.AST:
    """Syntax of a class, function or lambda in a notebook's cell."""
    text = "".join(linecache.getlines(file))
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        nodes = []
    line = found.__code__.co_firstlineno if isinstance(found, FunctionType) else 0
    for node in reversed(nodes):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == found.__name__:
            return node
        if isinstance(node, ast.Lambda) and found.__name__ == "<lambda>" and node.lineno == line:
            return node
    raise MethodError(
        f"the source of {found.__qualname__} cannot be read, and trials are named by it; "
        "write it into a file such as my_method.py, and name the file: methods=['./my_method.py']"
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
