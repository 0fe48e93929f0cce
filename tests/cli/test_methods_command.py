from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.method.registry import MethodRegistry

ROOT = Path(__file__).parents[2]
FOREIGN = ("leading", "leading-broken", "leading-fast")

ODD = """\
from hdapbench.method import Method, Plan, Problem


class NoPlan(Method):
    name = "no-plan"

    def compress(self, problem):
        print("a word on stdout")
        return {}


class Leaves(NoPlan):
    name = "leaves"

    def compress(self, problem):
        raise SystemExit(0)


class Speechless(NoPlan):
    name = "speechless"

    def skip(self, problem):
        return ""
"""


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["methods", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


class TestAPackageThatPipInstalledFromAnotherFolder:
    def test_is_listed_with_its_card_its_extra_and_what_is_broken(
        self, installed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = listed(capsys)

        assert rows["leading"]["idea"] == "Keep the first channels of every group."
        assert rows["leading"]["origin"] == "leading-channels 1.2 (leading_channels.methods:Leading)"
        assert rows["leading-fast"]["missing"] == ["no-such-package-of-leading-channels>=3.1"]
        assert "No module named 'no_such_package_at_all' (broken.py:3)" in str(rows["leading-broken"]["broken"])
        assert rows["uniform"]["broken"] is None

    def test_reads_well_in_the_list(self, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["methods"]) == 0

        lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert lines["leading"].endswith("Keep the first channels of every group. (from leading-channels)")
        assert "[extra fast: NOT installed; pip install 'leading-channels[fast]']" in lines["leading-fast"]
        assert "BROKEN: method 'leading-broken' (leading_channels.broken:Broken) cannot be" in lines["leading-broken"]

    def test_shows_the_card_of_a_method(self, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["methods", "leading"]) == 0

        text = capsys.readouterr().out
        assert "never sees: latency, accuracy, training images" in text
        assert "round_to: whole number >= 1, <= 64, default 2. Widths are multiples of this." in text
        assert "lacks" not in text

    def test_keeps_the_contract(self, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["methods", "test", "leading"]) == 0
        assert "BROKEN" not in capsys.readouterr().out

    def test_is_not_called_tested_when_it_skips_every_model(
        self, installed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["methods", "test", "leading-fast"]) == 1

        text = capsys.readouterr().out
        assert "nothing was tested" in text
        assert "  kept  " not in text

    def test_runs_and_broken_plug_ins_are_rows_beside_it(
        self, installed: Path, tiny_spec: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("torn.py").write_text("from hdapbench.method import Method\ndef torn(:\n")
        Path("odd.py").write_text(ODD)
        methods = f"methods=[{', '.join(FOREIGN)}]"

        ended = main(
            [
                *["run", str(tiny_spec), "--method", "./torn.py", "--method", "./odd.py", "--json"],
                *["--set", methods, "--set", "targets=[{flops: 0.5x}]", "--output", "board.md"],
            ]
        )

        board = Path("board.md").read_text()
        rows = {line.split("|")[1].strip(): line for line in board.splitlines() if line.startswith("| ")}
        assert ended == 1
        assert re.search(r"\| leading \*?\s*\| +\d", board)
        assert "it needs pip install 'leading-channels[fast]'" in rows["leading-fast"]
        assert "No module named 'no_such_package_at_all' (broken.py:3)" in rows["leading-broken"]
        assert "SyntaxError" in rows["torn"]
        assert "(torn.py:2)" in rows["torn"]
        assert "compress returned a dict, not a Plan" in rows["no-plan"]
        assert "SystemExit at odd.py:" in rows["leaves"]
        assert "the method gives no reason" in rows["speechless"]
        written = capsys.readouterr()
        assert "broken plug-in, its trials fail" in written.err
        assert len(json.loads(written.out)) == 1 + len(FOREIGN) + 4  # what a method prints is no result


def test_two_packages_with_one_name_are_a_row_and_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_spec: Path
) -> None:
    for package in ("alpha", "beta"):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[hdapbench.methods]\ntwin = {package}_code:Twin\n")
    monkeypatch.syspath_prepend(tmp_path)

    row = listed(capsys)["twin"]
    ended = main(["check", str(tiny_spec), "--method", "twin"])

    both = (
        "two packages offer a method 'twin': alpha 1.0 (alpha_code:Twin) and beta 1.0 (beta_code:Twin); uninstall one"
    )
    assert row["broken"] == both
    assert ended == 2
    assert both in capsys.readouterr().err


def test_a_folder_methods_of_the_user_does_not_hide_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("raise RuntimeError('of the user')\n")
    code = "from hdapbench.cli.main import main; main(['methods', '--json'])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)

    shipped = [row for row in json.loads(done.stdout) if row["name"] not in FOREIGN]
    assert len(shipped) == 17
    assert not [row["name"] for row in shipped if row["broken"]]


def test_a_new_method_is_a_file_that_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["methods", "new", "my-method"]) == 0
    assert main(["methods", "test", "./my_method.py"]) == 0
    assert main(["methods", "./my_method.py"]) == 0

    text = capsys.readouterr().out
    assert "BROKEN" not in text
    assert "the card lacks" not in text
    assert "my-method" in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("uniform", "there is a method 'uniform' already: hdapbench"),
        ("two words", "'two words' is no name for a method"),
        ("my.py", "'my.py' is no name for a method"),
        ("taken", "'taken.py' exists; name another file with --output"),
        ("dense", "'dense' is the model before compression"),
        ("test", "'hdapbench methods test' means something else"),
        ("x -o no/such/x.py", "there is no folder 'no/such'"),
        ("x -o x.txt", "'x.txt' does not end in .py"),
    ],
)
def test_a_new_method_overwrites_nothing_and_takes_no_name_that_is_taken(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.py").write_text("mine")

    words = name.split() if " -o " in name else [name]
    assert main(["methods", "new", *words]) == 2
    assert not list(Path().glob("x*"))
    assert reason in capsys.readouterr().err
    assert Path("taken.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["plan", "method", "3d", "none"])
def test_names_that_are_no_python_names_still_begin_a_file_that_can_be_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["methods", "new", name, "-o", "it.py"]) == 0
    assert MethodRegistry().add_file(Path("it.py")) == (name,)


def test_testing_a_bad_file_says_rule_models_reason_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "test", str(ROOT / "tests/testing/bad_plugins/prints.py"), "--one-process"]) == 1

    text = capsys.readouterr().out
    assert "BROKEN   nothing is printed: progress goes through problem.progress(text)" in text
    assert "plain, residual, depthwise, concat models: it printed 'share' to stdout" in text
    assert 'at prints.py:11: print("share", share)' in text
    assert text.count("BROKEN") == 1


def test_parameters_are_set_for_the_test_and_those_without_default_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demanding.py"
    path.write_text(
        "from hdapbench.method import Method, Plan, Problem\n\n\n"
        "class Demanding(Method):\n    name = 'demanding'\n    share: float\n\n"
        "    def compress(self, problem: Problem) -> Plan:\n"
        "        share = min(self.share, problem.solve_ratio())\n"
        "        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), 'l1')\n"
    )

    assert main(["methods", "test", str(path)]) == 2
    assert "add --set share=VALUE" in capsys.readouterr().err
    assert main(["methods", "test", str(path), "--set", "share=0.5", "--json", "--one-process"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert main(["methods", "test", str(path), "--set", "share"]) == 2


def test_all_methods_of_a_file_are_described_and_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.py"
    text = (ROOT / "tests/testing/bad_plugins/well_behaved.py").read_text()
    path.write_text(
        text + "\n\nclass Worse(Bad):\n    name = 'worse'\n\n    def compress(self, problem):\n        print(1)\n"
    )

    assert main(["methods", str(path), "--json"]) == 0
    assert [card["name"] for card in json.loads(capsys.readouterr().out)] == ["well_behaved", "worse"]
    assert main(["methods", "test", str(path), "--json", "--one-process"]) == 1
    assert [verdict["passed"] for verdict in json.loads(capsys.readouterr().out)] == [True, False]


def test_a_module_that_imports_torch_at_once_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "test", str(ROOT / "tests/testing/bad_plugins/draws_from_torch.py"), "--one-process"]) == 1

    assert "slow     draws_from_torch.py:3: import torch: this delays" in capsys.readouterr().out


def test_options_may_stand_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(ROOT / "tests/testing/bad_plugins/well_behaved.py")

    assert main(["methods", "test", "--one-process", "--json", path]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert main(["methods", "--json", "uniform"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "uniform"


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# \xe9\n"])
def test_a_file_in_another_encoding_is_tested(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "encoded.py"
    path.write_bytes(head + (ROOT / "tests/testing/bad_plugins/well_behaved.py").read_bytes())

    assert main(["methods", "test", str(path), "--one-process"]) == 0


def test_words_that_make_no_sense_say_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "test"]) == 2
    assert main(["methods", "new", "a", "b"]) == 2
    assert "write: hdapbench methods" in capsys.readouterr().err
