"""The contract suite on the command line: every rule, kept or broken, with the lines that broke it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hdapbench.cli.options import named_methods
from hdapbench.errors import MethodError
from hdapbench.method import Method
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec.document import parse_value
from hdapbench.testing import KINDS, RULES, Violation, check_method, skipped_kinds, torch_import
from hdapbench.testing.in_subprocess import check_in_subprocess
from hdapbench.testing.rules import PLAN, SEED


@dataclass(frozen=True)
class Verdict:
    """What the suite says of one method; ``slow`` names an import that is no fault, and delays everybody."""

    name: str
    skipped: dict[str, str]
    violations: tuple[Violation, ...]
    slow: str | None

    @property
    def tested(self) -> bool:
        """Whether any model was not skipped."""
        return len(self.skipped) < len(KINDS)

    @property
    def passed(self) -> bool:
        """Whether something was tested and no rule is broken."""
        return self.tested and not self.violations


def test(registry: MethodRegistry, text: str, *, overrides: Sequence[str], one_process: bool, as_json: bool) -> int:
    """Check a method, or every method of a file; 1 when a rule is broken or nothing could be tested."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parameters = _parameters(overrides)
        methods = [_method(registry, name, parameters) for name in named_methods(registry, text)]
        verdicts = [_verdict(method, None if one_process else text) for method in methods]
    finally:
        torch.set_num_threads(threads)
    if as_json:
        content = [_content(verdict) for verdict in verdicts]
        print(json.dumps(content if len(content) > 1 else content[0], indent=2))
    else:
        for verdict in verdicts:
            _print(verdict)
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _parameters(overrides: Sequence[str]) -> dict[str, Any]:
    """Parameters of ``--set``, read as YAML.

    Raises
    ------
    MethodError
        When one is not of the form NAME=VALUE.
    """
    parameters = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not name.strip():
            raise MethodError(f"--set {override}: write NAME=VALUE, such as --set steps=3")
        try:
            parameters[name.strip()] = parse_value(value)[0]
        except ValueError as error:
            raise MethodError(f"--set {override}: the value is not YAML: {error}") from error
    return parameters


def _method(registry: MethodRegistry, name: str, parameters: Mapping[str, Any]) -> Method:
    required = [field for field, info in registry.get(name).model_fields.items() if info.is_required()]
    if lacking := [field for field in required if field not in parameters]:
        settings = " ".join(f"--set {field}=VALUE" for field in lacking)
        raise MethodError(f"method '{name}' has parameters without defaults; add {settings}")
    return registry.resolve(name, parameters)


def _verdict(method: Method, source: str | None) -> Verdict:
    """Verdict on a method; without a source, no other process is asked."""
    skipped = {str(kind): reason for kind, reason in skipped_kinds(method).items()}
    place = torch_import(type(method))
    slow = (
        f"{place}: this delays every 'hdapbench methods'; import torch in the function that needs it" if place else None
    )
    found = check_method(method)
    broken = {violation.rule for violation in found}
    if source is not None:
        found += check_in_subprocess(method, source, () if broken & {PLAN, SEED} else KINDS)
    return Verdict(method.name, skipped, tuple(found), slow)


def _content(verdict: Verdict) -> dict[str, Any]:
    """Verdict as plain values."""
    violations = [
        asdict(violation) | {"place": str(violation.place) if violation.place else None}
        for violation in verdict.violations
    ]
    return {
        "name": verdict.name,
        "passed": verdict.passed,
        "skipped": verdict.skipped,
        "slow": verdict.slow,
        "rules": {rule: _state(verdict, rule).strip() for rule in RULES},
        "violations": violations,
    }


def _state(verdict: Verdict, rule: str) -> str:
    if any(violation.rule == rule for violation in verdict.violations):
        return "BROKEN"
    return "kept  " if verdict.tested else "open  "


def _print(verdict: Verdict) -> None:
    """Rule by rule; what happens on several models is said once."""
    print(verdict.name)
    for kind, reason in verdict.skipped.items():
        print(f"  skipped  {kind} model: {reason}")
    for rule, meaning in RULES.items():
        state = _state(verdict, rule)
        print(f"  {state}   {rule}" + (f": {meaning}" if state == "BROKEN" else ""))
        told: dict[str, list[str]] = {}
        for violation in verdict.violations:
            if violation.rule == rule:
                line = f"\n               at {violation.place}" if violation.place else ""
                models = told.setdefault(f"{violation.message}{line}", [])
                models += [violation.kind] if violation.kind else []
        for text, kinds in told.items():
            print(
                f"           {', '.join(kinds)} model{'s' * (len(kinds) > 1)}: {text}"
                if kinds
                else f"           {text}"
            )
    if verdict.slow:
        print(f"  slow     {verdict.slow}")
    if not verdict.tested:
        print("  nothing was tested: the method skips every model")
