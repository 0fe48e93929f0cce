from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdapbench.errors import SpecError
from hdapbench.spec import context_hash, load, load_spec, problem_at, schema_json, spec_hash

ROOT = Path(__file__).parents[2]
MINIMAL = """\
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


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "spec.yaml"
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text)
    return path


def problems_of(folder: Path, text: str | bytes, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(write(folder, text), overrides)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_minimal_spec_gets_its_defaults(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINIMAL))

    assert spec.methods[0].name == "uniform"
    assert spec.seeds == (0,)
    assert spec.fleets[0].clustering.method == "kmeans"


def test_three_mistakes_are_reported_at_once_and_located(tmp_path: Path) -> None:
    text = (
        MINIMAL.replace("name: digits", "name: digit")
        .replace("epochs: 1", "epoch: 1")
        .replace("n_devices: 8", "n_devices: 0")
    )

    problems = problems_of(tmp_path, text)

    assert problems == [
        "spec.yaml:4:8 data.name: unknown value 'digit'; did you mean 'digits'? Known: digits, imagefolder, cifar10, tiny-imagenet, imagenet, speech-commands, digit-scenes, yolo",
        "spec.yaml:5:1 fine_tune.epochs: the key 'epochs' is missing",
        "spec.yaml:5:13 fine_tune.epoch: unknown key 'epoch'; did you mean 'epochs'? Known: epochs, optimizer, learning_rate, weight_decay, batch_size, schedule, label_smoothing, max_train_images, distillation, ema, precision",
        "spec.yaml:7:60 fleets[0].n_devices: must be at least 1 (here: 0)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "a spec is a mapping"),
        ("a: [1, 2", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "a second YAML document"),
        (b"\x00\x01\x02", "is a binary file"),
        (b"a: \xff\xfe", "is not UTF-8"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not plain data"),
        ("[" * 5000, "nested deeper"),
        ("x: " + "a" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_spec_get_one_clear_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    problems = problems_of(tmp_path, text)

    assert any(expected in problem for problem in problems)
    assert all("\n" not in problem for problem in problems)


def test_a_yaml_bomb_is_refused_without_being_expanded(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    problems = problems_of(tmp_path, "\n".join(levels))

    assert len(problems) == 1
    assert "more than 20000 values" in problems[0]


def test_a_directory_and_a_missing_file_get_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a directory"):
        load_spec(tmp_path)
    with pytest.raises(SpecError, match=r"absent\.yaml does not exist"):
        load_spec(tmp_path / "absent.yaml")


def test_a_key_that_stands_twice_is_reported_with_the_place_of_the_second(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, MINIMAL + "name: other\n")

    assert problems == ["spec.yaml:10:1 name: stands twice; remove one of the two"]


def test_repeated_fleets_targets_and_seeds_are_named(tmp_path: Path) -> None:
    text = MINIMAL.replace("[{flops: 0.5x}]", "[{flops: 0.5x}, {flops: 0.50x}]") + "seeds: [1, 1]\n"

    assert problems_of(tmp_path, text) == [
        "spec.yaml:8:26 targets[1]: 0.5x stands twice in targets; remove or change one",
        "spec.yaml:10:12 seeds[1]: 1 stands twice in seeds; remove or change one",
    ]


def test_a_yaml_number_with_an_exponent_and_no_dot_is_a_number(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINIMAL.replace("epochs: 1", "epochs: 1, weight_decay: 1e-3")))

    assert spec.fine_tune.weight_decay == 0.001


def test_overrides_reach_into_lists_and_win_over_the_file(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINIMAL), ["fleets[0].n_devices=3", "targets.0.flops=1.0G", "seeds=[4, 5]"])

    assert spec.fleets[0].n_devices == 3
    assert spec.targets[0].flops == "1.0G"
    assert spec.seeds == (4, 5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fleets[0].n_devices=zero", "--set fleets[0].n_devices=zero fleets[0].n_devices: 'zero' should be"),
        ("fleets[3].n_devices=1", "'fleets' has entries 0..0"),
        ("nonsense", "write it as key=value"),
        ("name.inner=1", "holds a single value"),
        ("budget.device_querys=1", "did you mean 'device_queries'?"),
    ],
)
def test_wrong_overrides_are_located_at_the_override(tmp_path: Path, override: str, expected: str) -> None:
    problems = problems_of(tmp_path, MINIMAL, (override,))

    assert any(expected in problem and problem.startswith("--set ") for problem in problems)


def test_the_content_hash_ignores_comments_order_and_written_defaults(tmp_path: Path) -> None:
    first = load_spec(write(tmp_path, MINIMAL))
    second = load_spec(write(tmp_path, "# a comment\nseeds: [0]\n" + MINIMAL))
    third = load_spec(write(tmp_path, MINIMAL), ["seeds=[1]"])

    assert spec_hash(first) == spec_hash(second)
    assert spec_hash(first) != spec_hash(third)
    assert context_hash(first) == context_hash(third)
    assert context_hash(first) != context_hash(load_spec(write(tmp_path, MINIMAL), ["fine_tune.epochs=2"]))


def test_later_checks_can_point_at_a_line(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MINIMAL))

    problem = problem_at(loaded, ("methods", 0), "unknown method")

    assert (problem.line, problem.column, problem.path) == (9, 11, "methods[0]")


def test_lists_of_parameters_make_a_grid_in_the_order_written(tmp_path: Path) -> None:
    text = MINIMAL.replace("[uniform]", "[{name: x, parameters: {a: [1, 2], b: yes, c: [u, v]}}]")

    grid = load_spec(write(tmp_path, text)).methods[0].grid()

    assert [(point["a"], point["c"]) for point in grid] == [(1, "u"), (1, "v"), (2, "u"), (2, "v")]
    assert all(point["b"] is True for point in grid)


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid_and_name_the_schema(path: Path) -> None:
    assert load_spec(path).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=../docs/spec.schema.json\n")


def test_the_committed_schema_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "spec.schema.json").read_text() == schema_json()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_any_file_at_all_loads_or_raises_a_spec_error(tmp_path: Path, content: str | bytes) -> None:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path = tmp_path / "any.yaml"
    path.write_bytes(raw)

    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert caught.value.problems
