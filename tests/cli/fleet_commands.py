"""Fleet commands as a user types them: what they answer, and what they say when they refuse."""

from __future__ import annotations

import json

import pytest

from hdapbench.cli.main import main


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert main(["fleet", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["fleet", *arguments]) == 2
    return capsys.readouterr().err
