"""The documentation as a site: every page is made, no link is dead, and nothing is fetched from elsewhere."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hdapbench.cli.fleet import ACTIONS as FLEET_ACTIONS
from hdapbench.cli.main import COMMANDS
from hdapbench.cli.results import ACTIONS as RESULTS_ACTIONS
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec import schema_json

ROOT = Path(__file__).parents[1]
CHROMIUM = Path("/usr/bin/chromium")
PACKAGES = ("mkdocs", "material", "mkdocstrings_handlers.python")


def is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not all(map(is_there, PACKAGES)), reason="needs the docs extra")


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    config = str(root / "docs/site/mkdocs.yml")
    return subprocess.run([*command, "-f", config], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_command_key_method_and_board_has_its_place(site: Path) -> None:
    schema = json.loads(schema_json())
    parts = [schema, *schema["$defs"].values()]
    commands = [
        *COMMANDS,
        *(f"fleet-{name}" for name in FLEET_ACTIONS),
        *(f"results-{name}" for name in RESULTS_ACTIONS),
    ]
    pages = {
        path: (site / "reference" / f"{path}.html").read_text() for path in ("commands", "spec", "methods", "python")
    }

    assert [name for name in commands if f'id="{name}"' not in pages["commands"]] == []
    assert [name for name in MethodRegistry().names() if f'id="{name}"' not in pages["methods"]] == []
    assert [name for name in schema["$defs"] if f'id="{name}"' not in pages["spec"]] == []
    keys = {key for part in parts for key in part.get("properties", {})}
    assert [key for key in keys if f"<code>{key}</code>" not in pages["spec"]] == []
    assert all(f"hdapbench.{name}" in pages["python"] for name in ("run", "board", "results", "Board"))
    boards = {path.stem for path in (ROOT / "leaderboards").glob("*.md")}
    assert boards == {path.stem for path in (site / "boards").glob("*.html")}


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line per request."""

    def log_message(self, *_: object) -> None:
        pass


def test_pages_fit_a_telephone_find_words_and_ask_no_other_host(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: request.url.startswith(address) or complaints.append(request.url))
        for path in ("reference/commands.html", "reference/plugins.html", "boards/yolov8n.html", "fleets.html", ""):
            page.goto(address + path, wait_until="networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") == 400, path
            assert page.evaluate("getComputedStyle(document.body).getPropertyValue('color-scheme')") == "dark"
        page.keyboard.press("s")
        page.keyboard.type("knapsack", delay=20)
        page.locator(".md-search-result a", has_text="halp").first.wait_for()
        browser.close()

    assert complaints == []


def test_code_stands_on_the_site_as_in_its_document(site: Path) -> None:
    for name in ("spec", "fleets", "writing-a-method", "own-model"):
        text = (ROOT / f"docs/{name}.md").read_text()
        page = html.unescape(re.sub("<[^>]*>", "", (site / f"{name}.html").read_text()))
        blocks = re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        assert blocks
        assert [block for block in blocks if block.strip("\n") not in page] == []


def test_dead_links_and_anchors_to_documents_and_to_files_fail_the_build(tmp_path: Path) -> None:
    for name in ("docs", "leaderboards", "specs", "hdapbench"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("results", "__pycache__", "weights")
        )
    for path in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "CITATION.cff"):
        shutil.copy(path, tmp_path)
    dead = ["absent.md", "../specs/absent.yaml", "spec.md#absent", "../methods/", "../tests/test_site.py"]
    with (tmp_path / "docs/start.md").open("a") as page:
        page.write("\n".join(f"[dead]({target})" for target in dead))

    done = build(tmp_path, tmp_path / "out")

    assert done.returncode != 0
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("WARNING")]
    assert [target for target in dead if not any(f"'{target}'" in line for line in warnings)] == []
    assert len(warnings) == len(dead)
