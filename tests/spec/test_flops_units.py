from __future__ import annotations

import pytest

from hdapbench.spec import parse_flops, parse_target
from hdapbench.spec.schema import TargetSpec


@pytest.mark.parametrize(
    ("text", "dense", "expected"),
    [("0.5x", 1001, 500), ("1.0G", 7, 10**9), ("500M", 7, 5 * 10**8), ("4089184256", 7, 4089184256), (".25x", 8, 2)],
)
def test_targets_resolve_against_the_dense_model(text: str, dense: int, expected: int) -> None:
    assert parse_flops(text).resolve(dense) == expected


@pytest.mark.parametrize("text", ["0x", "1.5x", "-1", "abc", "", "1.0 Gx", "0"])
def test_what_is_no_target_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"0\.5x|at least one"):
        parse_flops(text)


def test_equal_targets_have_one_canonical_text() -> None:
    assert str(parse_flops("0.50x")) == str(parse_flops(".5x")) == "0.5x"


@pytest.mark.parametrize(
    ("written", "text", "share"), [("0.80x", "0.8x latency", 0.8), ("4.20ms", "4.2ms latency", 0.7)]
)
def test_a_limit_on_latency_is_a_share_of_the_dense_models(written: str, text: str, share: float) -> None:
    target = TargetSpec(latency=written)

    assert target.text == text
    assert str(parse_target(text)) == text
    assert parse_target(text).share(6.0) == pytest.approx(share)


@pytest.mark.parametrize("written", ["4.2", "4.2s", "0ms", "1.5x", "-1ms", "fast"])
def test_what_is_no_latency_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match=r"4\.2ms|above zero|0\.5x"):
        TargetSpec(latency=written)


def test_a_target_limits_one_thing() -> None:
    with pytest.raises(ValueError, match="exactly one of flops, size, cycles and latency"):
        TargetSpec(latency="0.8x", size="0.3x")


def test_a_target_on_something_else_is_stored_as_before_latency_was_one() -> None:
    assert TargetSpec(size="0.3x").model_dump().keys() == {"flops", "size", "cycles", "core"}
