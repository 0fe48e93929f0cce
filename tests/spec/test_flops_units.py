from __future__ import annotations

import pytest

from hdapbench.spec import parse_flops


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
