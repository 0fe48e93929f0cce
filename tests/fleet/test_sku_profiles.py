from __future__ import annotations

from importlib import resources

import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.profile import known_skus, load_profile, parse_profile


def nano_text(old: str = "", new: str = "") -> str:
    """The profile of the Nano, with one piece of text replaced."""
    text = resources.files("hdapbench").joinpath("fleet/simulated/skus/nano.yaml").read_text()
    assert old in text
    return text.replace(old, new)


def test_the_profiles_that_ship_are_found_by_their_file_names() -> None:
    assert known_skus() == ("nano", "xavier_nx")
    assert [load_profile(name).name for name in known_skus()] == ["nano", "xavier_nx"]


def test_the_clocks_of_the_nominal_mode_are_the_nominal_clocks() -> None:
    """Otherwise a device in the nominal mode would not have multipliers of one."""
    for name in known_skus():
        profile = load_profile(name)
        mode = profile.modes[profile.nominal_mode]

        assert (mode.gpu_mhz, mode.memory_mhz, mode.cpu_mhz) == (profile.gpu_mhz, profile.memory_mhz, profile.cpu_mhz)


def test_an_unknown_board_is_refused_with_a_suggestion() -> None:
    with pytest.raises(FleetError, match=r"unknown SKU 'xavier-nx'.*xavier_nx"):
        load_profile("xavier-nx")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("gpu_mhz: 921.6\n", "gpu_mhz: -1\n", "gpu_mhz"),
        ("gpu_mhz: 921.6\n", "", "gpu_mhz"),
        ("launch_us: 20", "launch_ms: 20", "launch_ms"),
        ("memory_efficiency: 0.55", "memory_efficiency: 55", "memory_efficiency"),
        ("mixed: {MAXN: 0.65, 5W: 0.35}", "mixed: {MAXN: 0.65, 5W: 0.30}", "scenario_modes.mixed sums to 0.95"),
        ("mixed: {MAXN: 0.65, 5W: 0.35}", "mixed: {MAXN: 0.65, 7W: 0.35}", "unknown modes"),
        ("nominal_mode: MAXN", "nominal_mode: MIN", "nominal_mode 'MIN' is no mode"),
        ("efficiency: {fp32: 0.60, fp16: 0.70}", "efficiency: {fp32: 0.60}", "same precisions"),
        ("name: nano", "name: [nano", "not valid YAML"),
        ("gpu_mhz: 921.6\n", "gpu_mhz: .inf\n", "gpu_mhz: not a finite number"),
        ("launch_us: 20", "launch_us: 1:20", "launch_us: '1:20'"),
    ],
)
def test_a_broken_profile_is_refused_naming_file_and_place(old: str, new: str, complaint: str) -> None:
    with pytest.raises(FleetError, match=r"^mine\.yaml") as caught:
        parse_profile(nano_text(old, new), "mine.yaml")

    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", "just words"])
def test_a_file_that_holds_no_profile_is_refused(text: str) -> None:
    with pytest.raises(FleetError, match=r"^mine\.yaml"):
        parse_profile(text, "mine.yaml")


def test_every_problem_of_a_profile_is_reported_at_once() -> None:
    text = nano_text("launch_us: 20", "launch_us: -20").replace("cpu_mhz: 1479\n", "cpu_mhz: fast\n", 1)

    with pytest.raises(FleetError) as caught:
        parse_profile(text, "mine.yaml")

    assert len(str(caught.value).splitlines()) == 2
