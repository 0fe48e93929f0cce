from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from hdapbench.errors import SpecError
from hdapbench.spec import Recipe, Spec, as_name, canonical_json, load_fleets, load_spec, parse_flops

SPEC = """\
schema_version: 1
name: tiny
model: {name: resnet20, input_shape: [1, 16, 16]}
data: {name: digits}
fine_tune: {epochs: 1}
fleets:
  - {name: a, kind: simulated, sku: nano, scenario: mixed, n_devices: 8}
targets: [{flops: 0.5x}]
methods: [uniform]
"""
RECORDED = "name: lat\nkind: recorded\npath: lat.csv\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(write(folder, text), overrides)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "number"),
    [("060", 60), ("0o10", 8), ("0x1F", 31), ("1e5", 100_000), ("1.5e3", 1500), ("+7", 7), ("1E2", 100)],
)
def test_whole_numbers_are_those_of_yaml_1_2(tmp_path: Path, written: str, number: int) -> None:
    in_file = load_spec(write(tmp_path, SPEC.replace("n_devices: 8", f"n_devices: {written}")))
    by_option = load_spec(write(tmp_path, SPEC), [f"fleets[0].n_devices={written}", f"seeds=[{written}]"])

    assert in_file.fleets[0].n_devices == by_option.fleets[0].n_devices == by_option.seeds[0] == number
    assert type(in_file.fleets[0].n_devices) is int


@pytest.mark.parametrize("written", ["1:30", "1_000", "0b11", "8.0", "8.5", "1e-1", "0o9", "yes", "null", "'8'"])
def test_other_whole_numbers_are_refused_as_they_were_written(tmp_path: Path, written: str) -> None:
    (problem,) = problems_of(tmp_path, SPEC.replace("n_devices: 8", f"n_devices: {written}"))

    assert problem.startswith("spec.yaml:7:60 fleets[0].n_devices: ")
    assert f"{written.strip(chr(39))}" in problem
    assert "should be a whole number" in problem


@pytest.mark.parametrize(
    ("written", "number"), [("1e-3", 1e-3), (".5", 0.5), ("5.", 5.0), ("1E+2", 100.0), ("010", 10.0), ("-0.0e1", None)]
)
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, written: str, number: float | None) -> None:
    text = SPEC.replace("epochs: 1", f"epochs: 1, learning_rate: {written}")

    if number is None:
        assert problems_of(tmp_path, text)[0].endswith("fine_tune.learning_rate: must be above 0 (here: -0.0e1)")
    else:
        assert load_spec(write(tmp_path, text)).fine_tune.learning_rate == number


@pytest.mark.parametrize("name", ["001", "12e4", "1e999", "0x1F", "0o10", ".5", "1_000", "1:30", "no", ".nan", "1.0"])
def test_names_that_look_like_numbers_stay_what_was_written(tmp_path: Path, name: str) -> None:
    text = f"{RECORDED}probes: [{name}, b]\ndevice_column: {name}\n"

    in_file = load_fleets(write(tmp_path, text))[0]
    by_option = load_fleets(write(tmp_path, RECORDED), [f"probes=[{name}, b]", f"device_column={name}"])[0]

    assert in_file.probes == by_option.probes == (name, "b")
    assert in_file.device_column == by_option.device_column == name


@pytest.mark.parametrize("written", [".inf", "-.inf", ".nan", "1e999"])
@pytest.mark.parametrize("key", ["fine_tune.epochs", "methods[0].parameters.x", "model.arguments.a", "seeds[0]"])
def test_infinite_numbers_are_refused_everywhere(tmp_path: Path, key: str, written: str) -> None:
    text = SPEC.replace("[uniform]", "[{name: uniform, parameters: {x: 1}}]") + "seeds: [0]\n"

    problems = problems_of(tmp_path, text, f"{key}={written}")

    assert f"--set {key}={written} {key}: {written} is not a finite number" in problems


def test_infinite_numbers_are_refused_from_python_too() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Recipe(epochs=math.inf)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[uniform]", "uniform", "9:1 methods: should be a list: [uniform]"),
        ("[uniform]", "{name: uniform}", "9:1 methods: should be a list: begin each entry with -"),
        ("[1, 16, 16]", "[1, 16]", "3:25 model.input_shape: has 2 entries and needs 3 (here: [1, 16])"),
        ("[1, 16, 16]", "[1]", "3:25 model.input_shape: has 1 entries and needs 3 (here: [1])"),
        ("[1, 16, 16]", "[1, 1, 1, 1]", "3:25 model.input_shape: must have at most 3 entries (here: [1, 1, 1, 1])"),
        ("epochs: 1", "epochs: -3", "5:13 fine_tune.epochs: must be at least 0 (here: -3)"),
        ("epochs: 1", "epochs: ", "5:13 fine_tune.epochs: null should be a number"),
        ("n_devices: 8", "n_devices: 1e9", "7:60 fleets[0].n_devices: must be at most 10,000,000 (here: 1e9)"),
        ("kind: simulated, ", "", "7:5 fleets[0]: the key 'kind' is missing: simulated, recorded, local"),
        (
            "name: tiny",
            "name: My Board",
            "2:1 name: 'My Board' should be made of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit",
        ),
        ("[uniform]", "[uniform, uniform]", "9:20 methods[1]: uniform repeats trials of methods[0]; remove one"),
        (
            "[uniform]",
            "[{name: random, parameters: {a: [1, 2]}}, {name: random, parameters: {a: 2}}]",
            "9:52 methods[1]: random repeats trials of methods[0]; remove one",
        ),
        ("flops: 0.5x", "flops: 0.5", "8:12 targets[0].flops: write 0.5x for a share of the dense model, or 0.5G; got"),
        ("name: digits", "name: yolo", "4:8 data.name: yolo is not for task: classification; it needs a set of"),
        ("epochs: 1", "epochs: 1, precision: amp", "5:24 fine_tune.precision: amp needs device: cuda; write bf16 or"),
        (
            "[uniform]",
            "[{name: uniform, targets: [{flops: 0.25x}]}]",
            "9:37 methods[0].targets[0]: 0.25x is not in targets; known: 0.5x",
        ),
    ],
)
def test_messages_speak_of_what_was_written_and_where(tmp_path: Path, old: str, new: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, SPEC.replace(old, new))

    assert problem.startswith(f"spec.yaml:{expected}")


def test_stored_specs_whose_methods_stand_twice_are_still_read(tmp_path: Path) -> None:
    stored = canonical_json(load_spec(write(tmp_path, SPEC)))
    (method,) = Spec.model_validate_json(stored).model_dump(mode="json")["methods"]
    twice = Spec.model_validate_json(stored).model_dump(mode="json") | {"methods": [method, method]}
    assert len(Spec.model_validate_json(json.dumps(twice)).methods) == 2


@pytest.mark.parametrize(
    ("written", "text"), [("0.00001x", "0.00001x"), ("0.50x", "0.5x"), ("0.3333333x", "0.3333333x"), ("1x", "1x")]
)
def test_shares_are_told_as_they_were_written(written: str, text: str) -> None:
    assert str(parse_flops(written)) == text
    assert str(parse_flops(text)) == text


def test_any_file_has_a_name_that_a_fleet_may_have() -> None:
    assert [as_name(text) for text in ("Größe 2", "My_Board", "__", "-a" * 50)] == [
        "gr-e-2",
        "my-board",
        "",
        "a-" * 29 + "a",
    ]
