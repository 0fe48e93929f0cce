"""The page of a board, as a browser shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdapbench.cli.board_forms import write_index, write_picture_or_page
from hdapbench.errors import OutputError
from hdapbench.leaderboard.board import Leaderboard
from hdapbench.plan import Plan
from hdapbench.render.board_page import board_page
from hdapbench.render.drawing import DARK, LIGHT
from hdapbench.render.verdict import verdict
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, BitMetrics, Result
from tests.boards import SPEC, board, trial

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = '<img src=x onerror="window.hit=1"></script><script>window.hit=1</script>\'"{{7*7}}\x1b[31m'
TARGETS: dict[str, Any] = SPEC | {"targets": [{"flops": "0.5x"}, {"flops": "0.25x"}]}


def complete(method: str, latency_ms: float, accuracy: float, target: str = "0.5x", **given: Any) -> Result:
    made = trial(method, spec=TARGETS, target=target, seed=given.pop("seed", 0), parameters=given.pop("parameters", {}))
    metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy)
    kept = Plan(kept={"conv1": tuple(range(len(method))), "conv2": (0,)})  # so that no two methods have the same widths
    return example_result(made, metrics=metrics).model_copy(update={"plan": kept, **given})


def results() -> list[Result]:
    of_two_seeds = [
        complete(method, latency_ms * share, accuracy, target, seed=seed)
        for target, share in (("0.5x", 1.0), ("0.25x", 0.6))
        for method, latency_ms, accuracy in (
            ("uniform", 8.0, 0.961),
            ("hdap", 6.2, 0.963),
            ("amc", 7.1, 0.957),
            ("random", 5.5, 0.921),
        )
        for seed in (0, 1)
    ]
    dense = [complete(DENSE, 12.0, 0.97, seed=seed) for seed in (0, 1)]
    return [*dense, *of_two_seeds, example_gap(trial("nni", spec=TARGETS), reason="out of memory")]


def a_board() -> tuple[Leaderboard, list[Result]]:
    found = results()
    return board(found, spec=TARGETS), found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "example.html"
    path.write_text(board_page(*a_board()), encoding="utf-8")
    return path


def opened(browser: Any, path: Path, **options: Any) -> Any:
    """Page with all charts drawn, and what it complained of or asked the network for."""
    page = browser.new_page(**options)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url == path.as_uri() or page.complaints.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-drawn]")
    return page


@pytest.fixture(scope="module")
def shared(browser: Any, file: Path) -> Any:
    return opened(browser, file)


@pytest.fixture
def page(shared: Any) -> Iterator[Any]:
    """The page of `a_board`, which tests leave as they found it, but for the order of rows."""
    yield shared
    assert shared.complaints == []


def methods(page: Any, group: str) -> list[str]:
    return page.locator("#s0 table").first.locator(f"tbody.{group} tr:visible th").all_inner_texts()


def test_rows_sort_on_their_side_of_the_line(page: Any) -> None:
    accuracy = page.get_by_role("button", name="accuracy (%)").first

    assert methods(page, "ranked") == ["hdap", "amc", "uniform"]
    accuracy.click()
    assert methods(page, "ranked") == ["amc", "uniform", "hdap"]
    accuracy.click()
    assert methods(page, "ranked") == ["hdap", "uniform", "amc"]
    assert methods(page, "unranked") == ["random"]
    assert accuracy.locator("xpath=..").get_attribute("aria-sort") == "descending"


def test_the_filter_leaves_what_it_names_in_all_tables(page: Any) -> None:
    page.get_by_label("Filter rows").fill("AMC")

    assert methods(page, "ranked") == ["amc"]
    assert methods(page, "unranked") == []
    assert re.fullmatch(r"\d+ of \d+ rows", page.locator("#count").inner_text())
    page.get_by_label("Filter rows").fill("")
    assert methods(page, "unranked") == ["random"]


def test_a_mark_says_its_numbers_when_it_is_pointed_at(page: Any) -> None:
    page.locator("[data-chart^=front] .mark-symbol.role-mark path[aria-label*='hdap']").first.hover(force=True)

    said = page.locator("#vg-tooltip-element.visible").inner_text()
    assert "6.200 ms" in said
    assert "96.30 %" in said


def test_a_method_is_pointed_out_in_all_charts(page: Any) -> None:
    chip = page.get_by_role("button", name="uniform", exact=True).first
    faint = "[data-chart^=front] .mark-symbol.role-mark path[opacity='0.1']"

    assert page.locator(faint).count() == 0
    chip.click()
    assert page.locator(faint).count() == 6  # two targets of the three others
    assert chip.get_attribute("aria-pressed") == "true"
    chip.click()
    assert page.locator(faint).count() == 0


def test_a_row_opens_by_keyboard_and_says_why_it_stands_there(page: Any) -> None:
    page.locator("#s0 .unranked [data-open]").focus()
    page.keyboard.press("Enter")
    said = page.locator("dialog[open]").inner_text()

    assert "missed by 3.20 points" in said
    assert "12.7% faster than hdap, the first row, at that price" in said
    assert "320 device queries" in said
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.textContent") == "random"


def test_dark_and_narrow_it_follows_the_theme_and_does_not_scroll_sideways(browser: Any, file: Path) -> None:
    page = opened(browser, file, color_scheme="dark", viewport={"width": 400, "height": 800})

    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    label = page.locator("[data-chart^=front] .role-axis-label text").first
    assert label.evaluate("found => getComputedStyle(found).fill") == "rgb(231, 234, 238)"
    assert page.locator("[data-chart] svg").count() == page.locator("[data-chart]").count() == 6
    assert page.complaints == []
    page.close()


def test_hostile_text_is_shown_and_does_nothing(browser: Any, tmp_path: Path) -> None:
    names = {name: name for name in (DENSE, "uniform")} | {"amc": f"{HOSTILE} amc", "hdap": f"{HOSTILE} hdap"}
    found = [
        result.model_copy(
            update={
                "trial": result.trial.model_copy(update={"method": names.get(result.trial.method, HOSTILE)}),
                "notes": {
                    "decisions": {"why": HOSTILE, HOSTILE: [HOSTILE]},
                    "frozen_groups": {HOSTILE: HOSTILE},
                    "base_origin": HOSTILE,
                    "fleet": {HOSTILE: HOSTILE},
                },
                "reason": result.reason and HOSTILE,
                "devices": tuple(device.model_copy(update={"device": HOSTILE}) for device in result.devices),
                "plan": result.plan and result.plan.model_copy(update={"kept": {HOSTILE: (0, 1)}}),
                "environment": result.environment.model_copy(update={"platform": HOSTILE}),
            }
        )
        for result in results()
    ]
    path = tmp_path / "hostile.html"
    path.write_text(board_page(board(found, spec=TARGETS), found), encoding="utf-8")

    page = opened(browser, path)
    page.locator("[data-chart^=front] .mark-symbol.role-mark path").first.hover(force=True)
    page.locator("[data-open]").first.press("Enter")

    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert "onerror" in page.locator("dialog[open]").inner_text()
    assert "\x1b" not in path.read_text(encoding="utf-8").partition("<script>")[0]
    assert page.complaints == []
    page.close()


def test_the_same_results_give_the_same_page(file: Path) -> None:
    assert board_page(*a_board()) == file.read_text(encoding="utf-8")


def test_a_page_of_a_hundred_thousand_results_has_at_most_five_megabytes() -> None:
    made, found = a_board()
    sections = [
        replace(
            section,
            rows=tuple(
                replace(row, label=f"{row.label} (variant={n})", seeds=(row.seeds * 3)[:5], devices=row.devices * 8)
                for row in section.rows
                for n in range(50)
            ),
        )
        for section in made.sections * 50
    ]
    assert sum(len(row.seeds) for section in sections for row in section.rows) == 100_000

    page = board_page(replace(made, sections=tuple(sections)), found)

    assert len(page.encode()) <= 5e6


def test_what_does_not_fit_is_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdapbench.render.board_page.N_ROWS", 12)
    monkeypatch.setattr("hdapbench.render.board_page.N_RECORDS", 10)
    monkeypatch.setattr("hdapbench.render.board_page.ACCOUNTS", 1)
    found = [complete("uniform", 8.0 + n / 10, 0.96, parameters={"n": n}) for n in range(20)]

    text = board_page(board(found, spec=TARGETS | {"seeds": [0]}), found)

    assert text.count('data-open="') == 12
    assert "8 more rows left out" in text
    assert text.count("hdapbench explain") == 11


def test_of_many_seeds_the_first_are_told_and_only_those_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdapbench.render.board_page.N_TRIALS", 8)
    found = {result.trial.id: result for n in range(30) for result in [complete("uniform", 8 + n / 10, 0.9, seed=n)]}
    asked: list[str] = []

    def find(ids: Sequence[str]) -> list[Result]:
        asked.extend(ids)
        return [found[trial_id] for trial_id in ids]

    text = board_page(board(list(found.values()), spec=TARGETS | {"seeds": list(range(30))}), find)

    assert asked == list(found)[:8]
    assert "22 more seeds left out of a page of this size." in text
    assert "Seed 7: " in text
    assert "Seed 8: " not in text


def test_the_index_links_each_board_with_its_first_rows_and_its_lead(browser: Any, tmp_path: Path) -> None:
    made, found = a_board()
    written = [*write_picture_or_page(made, found, tmp_path / "example.html"), write_index([made], tmp_path)]
    page = browser.new_page(viewport={"width": 400, "height": 800})

    page.goto((tmp_path / "index.html").as_uri())
    line = page.get_by_role("row").nth(1).inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.get_by_role("link", name="example").click()

    assert "4 methods" in line
    assert "6.200 ms, 1.94x dense, accuracy 96.3 %" in line
    assert "hdap is 25.8% faster" in line
    assert page.url == written[0].as_uri()
    page.close()


def test_pictures_of_fronts_are_written_by_suffix(tmp_path: Path) -> None:
    made, found = a_board()

    (svg,) = write_picture_or_page(made, found, tmp_path / "front.svg")
    (png,) = write_picture_or_page(made, found, tmp_path / "front.png")

    assert png.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="no trial of 'example' has numbers yet"):
        write_picture_or_page(board([]), [], tmp_path / "front.svg")
    text = svg.read_text(encoding="utf-8")
    for said in ("average clustered latency (ms)", "accuracy (%)", "hdap", "uniform", "0.25x", "dense"):
        assert f">{said}<" in text


def test_a_verdict_says_what_is_shown_and_what_is_not() -> None:
    made, _ = a_board()
    said = {row.label: verdict(made, made.sections[0], row) for row in made.sections[0].rows}

    assert said["hdap"][1].startswith("Fastest of 3 rows within 1 point of the most accurate (hdap, 96.3%)")
    assert said["amc"][1] == "Place 2 of 3."
    assert said["amc"][2].startswith("14.5 % (")
    assert "slower than hdap, which is shown" in said["amc"][2]
    assert "missed by 3.20 points" in said["random"][1]
    assert said["uniform"][-1] != said["hdap"][-1]
    assert said["hdap"][-1].startswith("At equal accuracy it is 25.8% faster than uniform over its 2 targets")


def quantised(method: str, weight_bytes: float, accuracy: float) -> Result:
    bits = BitMetrics(
        weight_bytes=weight_bytes,
        packed_bytes=int(weight_bytes) + 500,
        bit_operations=1e6,
        mpic_cycles=2e5,
        ne16_cycles=None,
        channels_at_bits={4: 3, 8: 1},
        integer_accuracy=accuracy,
        argmax_differences=1,
        n_compared=100,
        stored_bytes=int(weight_bytes) + 100,
    )
    result = complete(method, 5.0, accuracy)
    assert result.metrics is not None
    return result.model_copy(update={"metrics": result.metrics.model_copy(update={"bits": bits})})


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "0 of 0 trials have ended"),
        ([complete("uniform", 8.0, 0.96)], "One seed"),
        ([complete(DENSE, 9.0, 0.97), example_gap(trial("uniform"), reason="out of memory")], "out of memory"),
        ([quantised("uniform", 20_000, 0.9), quantised("hdap", 10_000, 0.91)], "Accuracy against stored bytes"),
    ],
)
def test_boards_of_nothing_of_one_row_and_of_bits_are_pages(
    found: list[Result], says: str, browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / "board.html"
    path.write_text(board_page(board(found, spec=SPEC | {"seeds": [0]}), found), encoding="utf-8")

    page = opened(browser, path)

    assert says in page.inner_text("body")
    assert page.complaints == []
    page.close()


DICHROMATS = {  # Machado, Oliveira and Fernandes 2009, Table 1, severity 1.0; of linear RGB
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
OKLAB = (  # Ottosson 2020, "A perceptual color space for image processing"
    np.array(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.21190350, 0.68069955, 0.10739696],
            [0.08830246, 0.28171884, 0.62997870],
        ]
    ),
    np.array(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859221, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    ),
)


def linear(colors: Sequence[str]) -> Any:
    parts = np.array([[int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)] for color in colors])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(("colors", "ground"), [(LIGHT, "#ffffff"), (DARK, "#14171b")])
def test_colors_of_methods_stand_out_from_the_page_and_from_each_other(colors: tuple[str, ...], ground: str) -> None:
    luminance = linear([ground, *colors]) @ [0.2126, 0.7152, 0.0722] + 0.05
    contrast = np.maximum(luminance[1:] / luminance[0], luminance[0] / luminance[1:])
    assert contrast.min() >= 3  # WCAG 2.2, 1.4.11

    for kind, seen in DICHROMATS.items():
        cones = np.clip(linear(colors) @ seen.T, 0, 1) @ OKLAB[0].T
        lab = np.cbrt(cones) @ OKLAB[1].T
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(len(colors))
        assert apart.min() >= 0.1, kind
