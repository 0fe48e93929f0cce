from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hdapbench.cli.main import COMMANDS, main
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec import load, schema_json
from hdapbench.spec.shipped import shipped_specs
from hdapbench.testing import RULES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def blocks(path: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)


def schema_keys() -> set[str]:
    schema = json.loads(schema_json())
    parts = [schema, *schema["$defs"].values()]
    return {key for part in parts for key in part.get("properties", {})}


def test_every_key_of_a_spec_is_documented() -> None:
    text = (ROOT / "docs/spec.md").read_text()

    assert [key for key in sorted(schema_keys()) if not re.search(rf"`{key}[`:]|{key}:", text)] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"hdapbench {command}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("method", MethodRegistry().names())
def test_every_shipped_method_is_in_the_readme_and_the_changelog(method: str) -> None:
    assert f"| `{method}` |" in (ROOT / "README.md").read_text()
    assert method in (ROOT / "CHANGELOG.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def rooms() -> str:
    """Table of all rooms, floor by floor from the top, each with the first line of its docstring."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = ["| floor | room | what it is |", "|--:|---|---|"]
    for floor, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        for home in (ROOT / "hdapbench" / name for name in re.findall(r"\w+", layer)):
            for file in sorted(home.rglob("__init__.py")) or [home.with_suffix(".py")]:
                line = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0].replace("|", "\\|")
                room = str(file.relative_to(ROOT / "hdapbench")).removesuffix("__init__.py")
                rows.append(f"| {floor} | `{room}` | {line} |")
    return "\n".join(rows)


def test_contributing_lists_every_room_on_its_floor() -> None:
    """Write the table anew with HDAPBENCH_UPDATE_GOLDEN=1."""
    path = ROOT / "CONTRIBUTING.md"
    text = re.sub(
        "(?s)(<!-- rooms -->\n).*(\n<!-- end)", lambda mark: f"{mark[1]}\n{rooms()}\n{mark[2]}", path.read_text()
    )
    if os.environ.get("HDAPBENCH_UPDATE_GOLDEN"):
        path.write_text(text)

    assert path.read_text() == text


def test_code_that_documents_name_exists() -> None:
    groups = {*PROJECT["project"]["entry-points"]}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for name in {*re.findall(r"\bhdapbench(?:\.\w+)+", path.read_text())} - groups:
            pkgutil.resolve_name(name)
        for file in re.findall(r"\b(?:hdapbench|methods|studies|tests|specs|benchmarks)/[\w./-]*\w", path.read_text()):
            assert (ROOT / file).exists() or "NAME" in file, f"{path.name} names {file}"


def test_slow_tests_that_the_fast_suite_leaves_out_exist() -> None:
    for name in (ROOT / "tests/slow.txt").read_text().split():
        file, *parts = name.partition("[")[0].split("::")
        text = (ROOT / "tests" / file).read_text()
        assert not parts or re.search(rf"(def|class) {parts[-1]}\b", text), name


GUIDE = [block for block in blocks("docs/writing-a-method.md", "python") if "(Method)" in block]


@pytest.mark.parametrize("number", range(len(GUIDE)))
def test_the_methods_of_the_guide_keep_the_rules(number: int, tmp_path: Path) -> None:
    path = tmp_path / f"example{number}.py"
    path.write_text(GUIDE[number])

    assert main(["methods", "test", str(path), "--one-process"]) == 0


def test_the_guide_grows_from_twelve_lines() -> None:
    lengths = [len(block.splitlines()) for block in GUIDE]

    assert lengths[0] == 12
    assert len(lengths) == 6
    assert lengths[-1] == max(lengths)


def test_the_guide_names_every_rule() -> None:
    text = (ROOT / "docs/writing-a-method.md").read_text()

    assert [rule for rule in RULES if f"| {rule} |" not in text] == []


@pytest.mark.parametrize(
    "line",
    [
        line.split("#")[0].strip()
        for path in ["README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))]
        for block in blocks(path, "bash")
        for line in block.splitlines()
        if line.startswith("hdapbench ")
    ],
)
def test_commands_in_the_documents_are_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = line.split()[1]

    with pytest.raises(SystemExit) as ended:
        main([name, *line.split()[2:], "--help"])

    assert ended.value.code == 0
    assert f"hdapbench {name}" in capsys.readouterr().out


def test_extras_that_messages_and_documents_name_exist() -> None:
    code = [*ROOT.glob("hdapbench/**/*.py"), *ROOT.glob("methods/**/*.py")]
    text = "\n".join(
        path.read_text() for path in [*code, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile"]
    )
    named = re.findall(r"(?:hdapbench|'\.)\[([\w,]+)\]|EXTRAS=([\w,]+)", text)
    named += re.findall(r"MissingExtraError\([^,]+, \"(\w+)\"()", text)

    assert len(named) > 10
    assert {extra for one in named for extra in "".join(one).split(",")} <= {
        *PROJECT["project"]["optional-dependencies"]
    }


def test_what_make_quickstart_installs_is_enough_for_every_spec_that_ships() -> None:
    registry = MethodRegistry()
    needed = {"onnx"}  # local fleets run onnxruntime
    for path in shipped_specs().values():
        spec = load(path).spec
        needed |= {extra for method in spec.methods if (extra := registry.get(method.name).extra)}
        needed |= {"yolo"} if spec.model.name.startswith("ultralytics:") else set()
    [installed] = PROJECT["project"]["optional-dependencies"]["specs"]

    assert "EXTRAS ?= specs\n" in (ROOT / "Makefile").read_text()
    assert sorted(needed) == installed.removeprefix("hdapbench[").removesuffix("]").split(",")


def test_the_network_of_the_guide_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(blocks("docs/own-model.md", "python")[0])
    [line] = [line for block in blocks("docs/own-model.md", "bash") for line in block.splitlines() if " init " in line]
    for folder in ("images/train/a", "images/train/b", "images/test/a", "images/test/b"):
        Path(folder).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(Path(folder, f"{number}.png"))

    assert main(line.split()[1:]) == 0
    assert main(["check", "bench.yaml"]) == 0


def test_the_python_of_the_fleet_guide_estimates_a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fleet", "make", "--devices", "40", "-o", "fleet.yaml"]) == 0
    names: dict[str, Any] = {}

    exec(blocks("docs/fleets.md", "python")[0], names)  # noqa: S102

    truth = names["fleet"].mean_latency_ms(names["halved"])
    assert names["estimate"].mean_ms == pytest.approx(truth, rel=0.03)


def test_the_readme_excerpt_is_part_of_the_committed_board() -> None:
    excerpt = (ROOT / "README.md").read_text().split("<!-- excerpt: quickstart 0.5x -->")[1].split("<!-- end")[0]
    rows = [line for line in excerpt.splitlines() if line.startswith("|")]
    board = (ROOT / "leaderboards/quickstart.md").read_text()

    assert len(rows) > 8
    assert all(row in board for row in rows)
