from __future__ import annotations

import pytest

from hdapbench.spec import parse_flops, parse_target
from hdapbench.spec.methods import TargetSpec


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


def test_a_target_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="one or more of flops, size, cycles, latency, ram and flash"):
        TargetSpec()


def test_several_limits_have_one_text_whatever_their_order() -> None:
    target = TargetSpec(ram="64kB", size="0.25x", cycles="0.50x", core="mpic")

    assert target.text == "0.25x size + 0.5x mpic + 64kB ram"
    assert str(parse_target("64kB ram + 0.5x mpic+0.25x size")) == target.text
    assert [(part.kind, part.absolute or part.relative) for part in parse_target(target.text).parts] == [
        ("size", 0.25),
        ("mpic", 0.5),
        ("ram", 64_000),
    ]
    assert TargetSpec(flops="0.5x", flash="32kB").text == "0.5x + 32kB flash"
    with pytest.raises(ValueError, match="each of size once"):
        parse_target("0.3x size + 20kB size")


@pytest.mark.parametrize("written", ["64", "64k", "2x", "0kb"])
@pytest.mark.parametrize("kind", ["ram", "flash"])
def test_what_is_no_amount_of_memory_is_refused_with_an_example(kind: str, written: str) -> None:
    with pytest.raises(ValueError, match=r"20kB or 1\.5MB|0\.5x"):
        TargetSpec(**{kind: written})


def test_a_target_on_something_else_is_stored_as_before_latency_was_one() -> None:
    assert TargetSpec(size="0.3x").model_dump().keys() == {"flops", "size", "cycles", "core"}
