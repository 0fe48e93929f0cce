"""MethodContract: the rules as a pytest suite. A subclass gives the method as a fixture."""

from __future__ import annotations

from hdapbench.method import Method
from hdapbench.testing.checking import check_method, skipped_kinds
from hdapbench.testing.problems import ModelKind


class MethodContract:
    """pytest suite of all rules; a subclass gives the method as a fixture named ``method``."""

    def test_keeps_every_rule_on_a_plain_model(self, method: Method) -> None:
        """Check a chain of convolutions, two channels wide at its narrowest group, with a single one in between."""
        self._check(method, "plain")

    def test_keeps_every_rule_on_a_residual_model(self, method: Method) -> None:
        """Check groups that are tied by additions."""
        self._check(method, "residual")

    def test_keeps_every_rule_on_a_depthwise_model(self, method: Method) -> None:
        """Check groups that run through depthwise convolutions."""
        self._check(method, "depthwise")

    def test_keeps_every_rule_on_a_concat_model(self, method: Method) -> None:
        """Check a consumer that belongs to two groups."""
        self._check(method, "concat")

    @staticmethod
    def _check(method: Method, kind: ModelKind) -> None:
        broken = check_method(method, (kind,))
        assert not broken, "\n".join(map(str, broken))
        if skipped := skipped_kinds(method, (kind,)):
            import pytest

            pytest.skip(skipped[kind])
