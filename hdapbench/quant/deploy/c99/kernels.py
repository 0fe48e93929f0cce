"""The C functions that generated code consists of, each for the types of what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from string import Template

from hdapbench.quant.deploy.c99.templates import (
    COMPUTE,
    CONV,
    DOT,
    ELEMENTS,
    FILTER,
    LAYER,
    LINEAR,
    NARROW,
    POINTWISE,
    POOL,
    POOL_STEPS,
    POOLING,
    PREAMBLE,
    REORDER,
    RESCALED,
    TABLE,
    TAKE,
    WIDE,
)

TYPES = {"int8_t": "i8", "uint8_t": "u8", "int64_t": "i64"}


@dataclass(frozen=True, order=True)
class Kernel:
    """One function, for given types.

    Attributes
    ----------
    kind
        Name of a template.
    reads, writes
        C types of its inputs and its output.
    offset
        Whether what it reads is stored with an offset, in kinds that ask.
    """

    kind: str
    reads: tuple[str, ...]
    writes: str
    offset: bool = False

    @property
    def name(self) -> str:
        """Name of the function."""
        types = "_".join(TYPES[text] for text in (*self.reads, self.writes))
        return f"{self.kind}_{types}{'_offset' if self.offset else ''}"


def sources(kernels: Iterable[Kernel]) -> str:
    """Everything before the constants: structures and functions, each once."""
    wanted = sorted(set(kernels))
    kinds = {kernel.kind for kernel in wanted}
    parts = [PREAMBLE]
    if kinds & {"conv", "linear"}:
        parts.append(LAYER)
    if kinds & set(POOL_STEPS):
        parts.append(POOL)
    if kinds & set(COMPUTE):
        parts.append(POINTWISE)
    if kinds & {"conv", "linear", "avg_pool", "mul", "rescale"}:
        parts.append(RESCALED)
    if "conv" in kinds:
        parts.append(FILTER)
    dots = sorted({(kernel.reads[0], kernel.offset) for kernel in wanted if kernel.kind in {"conv", "linear"}})
    parts += [_dot(*entry) for entry in dots]
    parts += [_source(kernel) for kernel in wanted]
    return "\n".join(parts)


def _dot(c_type: str, offset: bool) -> str:
    loads = {f"x{place}": f"(x[{place}] - zero)" if offset else f"x[{place}]" for place in (*range(8), "k")}
    zero = ", int32_t zero" if offset else ""
    return Template(DOT).substitute(x=_dot_name(c_type, offset), X=c_type, zero=zero, **loads)


def _dot_name(c_type: str, offset: bool) -> str:
    return TYPES[c_type] + ("_offset" if offset else "")


def _source(kernel: Kernel) -> str:
    """One function."""
    store = WIDE if kernel.writes == "int64_t" else Template(NARROW).substitute(Y=kernel.writes)
    given = {"name": kernel.name, "X": kernel.reads[0], "Y": kernel.writes, "store": store}
    if kernel.kind in {"conv", "linear"}:
        minus = " - l->zero_in" if kernel.offset else ""
        loads = {f"p{place}": f"(p[{place}]{minus})" if minus else f"p[{place}]" for place in range(4)}
        given |= loads | {"p": f"(*p{minus})" if minus else "*p"}
        given |= {"x": _dot_name(kernel.reads[0], kernel.offset), "arg": ", l->zero_in" if kernel.offset else ""}
        return _filled(CONV if kernel.kind == "conv" else LINEAR, given)
    if kernel.kind in POOL_STEPS:
        start, step = POOL_STEPS[kernel.kind]
        if kernel.kind == "avg_pool":
            given["store"] = f"q = rescaled(q, l->multiplier, l->shift);\n{store}"
        return _filled(POOLING, given | {"start": start, "step": step.replace("{{", "{").replace("}}", "}")})
    if kernel.kind in COMPUTE:
        names = ("first", "second")
        operands = "".join(f", const {text} *{name}" for text, name in zip(kernel.reads, names, strict=False))
        return _filled(ELEMENTS, given | {"operands": operands, "compute": COMPUTE[kernel.kind]})
    return _filled({"table": TABLE, "take": TAKE, "reorder": REORDER}[kernel.kind], given)


def _filled(template: str, given: dict[str, str]) -> str:
    """A template with its places filled in, lines of a filling indented as its place."""
    lines = []
    for line in template.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        filled = Template(line).substitute(given)
        lines += [text if number == 0 else indent + text for number, text in enumerate(filled.split("\n"))]
    return "\n".join(lines) + "\n"
