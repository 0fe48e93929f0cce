from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated, Literal

import pytest
from pydantic import Field

from hdapbench.method import Method, Plan, Problem
from hdapbench.method.card import HIDEABLE, OPEN, card_of, missing_packages
from hdapbench.method.registry import MethodRegistry


class Documented(Method):
    """Do it well.

    How it is done, in a paragraph
    of two lines.

    Source: somebody, somewhere,
    some time.
    Needs: batch norm.
    Never sees: latency, training images.

    A last word.
    """

    name = "documented"
    kind: Literal["a", "b"] = Field(default="a", description="Which.")
    share: float = Field(default=0.5, gt=0.0, lt=1.0, description="How much.")
    steps: int | None = Field(default=None, ge=1, description="How often.")
    sizes: list[int] = Field(default_factory=list, description="How large.")
    folder: Annotated[str, Field(description="Where.")]
    bare: bool = False

    def compress(self, problem: Problem) -> Plan:
        raise NotImplementedError


class Undocumented(Method):
    name = "undocumented"

    def compress(self, problem: Problem) -> Plan:
        raise NotImplementedError


def test_a_card_is_read_from_the_docstring() -> None:
    card = card_of(Documented)

    assert card.idea == "Do it well."
    assert card.about == "How it is done, in a paragraph\nof two lines.\n\nA last word."
    assert card.source == "somebody, somewhere, some time."
    assert card.needs == "batch norm."
    assert card.never_sees == ("latency", "training images")
    assert card.missing == ("a description of bare",)


def test_parameters_have_a_type_a_range_and_a_default() -> None:
    found = {parameter.name: parameter for parameter in card_of(Documented).parameters}

    assert (found["kind"].type, found["kind"].default) == ("one of a, b", '"a"')
    assert (found["share"].type, found["share"].range) == ("number", "> 0, < 1")
    assert (found["steps"].type, found["steps"].range, found["steps"].default) == (
        "whole number or null",
        ">= 1",
        "null",
    )
    assert (found["sizes"].type, found["sizes"].default) == ("list of whole number", "made anew")
    assert (found["folder"].type, found["folder"].default) == ("text", None)
    assert (found["bare"].type, found["bare"].default) == ("true or false", "false")


def test_a_method_without_docstring_does_not_borrow_that_of_its_base() -> None:
    assert card_of(Undocumented).idea == ""
    assert card_of(Undocumented).missing == ("an idea", "Source:", "Needs:", "Never sees:")


def test_requirements_of_an_extra_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=2.0",
        "no-such-package-at-all>=1.5; extra == 'some'",
        "numpy>=99; extra == 'some'",
        "pydantic>=2.0; extra == 'some'",
        "no-such-package-either; extra == 'some' and python_version < '3'",
        "itself[some]; extra == 'every'",
    ]
    monkeypatch.setattr("hdapbench.method.card.requires", lambda package: lines)
    monkeypatch.setattr(
        "hdapbench.method.card.version", lambda name: "1.0" if name == "itself" else installed_version(name)
    )

    assert missing_packages("itself", "some") == ("no-such-package-at-all>=1.5", "numpy>=99")
    assert missing_packages("itself", "every") == ("no-such-package-at-all>=1.5", "numpy>=99")
    assert missing_packages("itself", "another") == ()


def test_a_package_that_is_not_there_has_no_requirements() -> None:
    assert missing_packages("no-such-package-at-all", "some") == ()


@pytest.mark.parametrize("name", MethodRegistry().names())
def test_the_card_of_a_shipped_method_lacks_nothing(name: str) -> None:
    registry = MethodRegistry()
    if registry.package(name) != "hdapbench":
        pytest.skip("a method of another package")

    card = card_of(registry.get(name))

    assert card.missing == ()
    assert set(card.never_sees) <= {*HIDEABLE, OPEN}
    assert card.idea.endswith(".")
