"""The release check finds flaws and licences, and says what it could not find out."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from tests import release


def test_a_flaw_is_named_with_its_fix_and_what_was_not_looked_up_is_no_clean_bill():
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": []},
            {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]},
            {"name": "c", "skip_reason": "Dependency not found on PyPI"},
            {"name": "hdapbench", "skip_reason": "editable"},
        ]
    }

    assert release.vulnerable(report) == (["b 2: CVE-1; fixed in: 3"], ["c"])


@pytest.mark.parametrize(
    ("name", "licence", "fits"),
    [
        *(("a", "MIT License", True), ("a", "LGPL-3.0-only", True), ("a", "BSD-3-Clause AND Zlib", True)),
        *(("a", "AGPL-3.0-only", False), ("a", "GPL-3.0", False), ("a", "UNKNOWN", False)),
        *(("a", "Commercial, permitted use only", False), ("ultralytics-thop", "AGPL-3.0-only", True)),
    ],
)
def test_a_licence_is_free_enough_or_a_known_exception(name, licence, fits):
    assert (release.unfit([{"Name": name, "Version": "1", "License": licence}]) == []) == fits


def test_an_audit_without_a_network_is_said_and_is_no_success(monkeypatch, capsys):
    def no_network(command, **_):
        is_audit = "pip_audit" in command
        return SimpleNamespace(stdout="" if is_audit else "[]", stderr="ConnectionError: no route" if is_audit else "")

    monkeypatch.setattr(subprocess, "run", no_network)

    assert release.main() == 3
    assert "could not reach its source: ConnectionError: no route" in capsys.readouterr().out
