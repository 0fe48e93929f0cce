"""A file to begin a method with: it runs as it is, and every line of it is there to be replaced."""

from __future__ import annotations

import re
from pathlib import Path

from hdapbench.cli.output import write_output
from hdapbench.errors import MethodError
from hdapbench.method.registry import NAME, MethodRegistry
from hdapbench.trial import DENSE

TEMPLATE = '''\
"""The method {name}."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class {class_name}(Method):
    """Keep the filters of largest norm, the same share of every group.

    Source: the paper or program that it follows.
    Needs: nothing but weights.
    Never sees: latency, accuracy, training images.
    """

    name = "{name}"
    norm: Literal["l1", "l2"] = Field(default="l2", description="Norm that ranks the filters.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")

    def compress(self, problem: Problem) -> Plan:
        """Plan that meets ``problem.target_flops``."""
        scores = problem.importance(self.norm)  # group -> one score per channel
        share = problem.solve_ratio(round_to=self.round_to)  # the largest that every group may keep
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), scores, round_to=self.round_to)


if __name__ == "__main__":
    from hdapbench.cli.main import main

    raise SystemExit(main(["methods", "test", __file__]))
'''

TAKEN = frozenset({"Field", "False", "Literal", "Method", "None", "Plan", "Problem", "True"})
"""Names that the file itself uses, and words of Python."""


def begin(registry: MethodRegistry, name: str, *, output: Path | None) -> int:
    """Write the file of a new method.

    Raises
    ------
    MethodError
        When the name cannot be one, is taken, or the file exists.
    """
    if not NAME.fullmatch(name) or name.endswith(".py"):
        raise MethodError(f"'{name}' is no name for a method: letters, digits, '.', '_' and '-', such as my-method")
    if name == DENSE:
        raise MethodError(f"'{DENSE}' is the model before compression; choose another name")
    if name in {"new", "test"}:
        raise MethodError(f"'hdapbench methods {name}' means something else; choose another name")
    if name in registry.names():
        raise MethodError(f"there is a method '{name}' already: {registry.origin(name)}; choose another name")
    words = re.findall(r"[A-Za-z0-9]+", name)
    module, class_name = "_".join(words).lower(), "".join(word[0].upper() + word[1:] for word in words)
    if not class_name.isidentifier() or class_name in TAKEN:
        module, class_name = f"method_{module}", f"Method{class_name}"
    path = output or Path(f"{module}.py")
    if path.exists():
        raise MethodError(f"'{path}' exists; name another file with --output")
    if path.suffix != ".py":
        raise MethodError(f"'{path}' does not end in .py, by which a file of methods is known")
    if not path.parent.is_dir():
        raise MethodError(f"there is no folder '{path.parent}'")
    write_output(path, TEMPLATE.format(name=name, class_name=class_name))
    shown = path if path.is_absolute() else f"./{path}"
    print(f"wrote {path}\n")
    print(f"hdapbench methods test {shown}                          # does it keep the rules?")
    print(f"hdapbench run specs/quickstart.yaml --method {shown}    # it appears on the board")
    return 0
