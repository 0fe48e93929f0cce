"""Bit-widths from spec to board to deployable files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.quant.deploy.packed import load_packed

SPEC = """\
schema_version: 1
name: bits
model: {name: resnet6, input_shape: [1, 8, 8]}
data: {name: digits, normalize: {mean: [0.0], std: [1.0]}}
base: &recipe {epochs: 1, optimizer: adamw, learning_rate: 3.0e-3, batch_size: 64, max_train_images: 300}
fine_tune: *recipe
fleets:
  - {name: six, kind: simulated, sku: nano, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}
targets: [{size: 0.35x}, {cycles: 0.7x}, {flops: 0.6x}, {latency: 0.97x}, {latency: 0.001ms}]
methods:
  - uniform
  - {name: joint-mpq, parameters: {choose: [joint, fixed]}}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bits")
    (folder / "bits.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "bits.yaml", "--workspace", "ws", "--quiet"]) == 0
    return folder


def trials(workspace: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str | None, str], dict]:
    capsys.readouterr()
    assert main(["show", "bits", "--json", "--workspace", str(workspace / "ws")]) == 0
    results = json.loads(capsys.readouterr().out)
    return {
        (r["trial"]["method"], r["trial"]["target"], r["trial"]["parameters"].get("choose", "")): r for r in results
    }


def test_every_kind_of_target_has_rows_and_reasons(workspace, capsys):
    found = trials(workspace, capsys)

    assert {key[1] for key in found} == {None, "0.35x size", "0.7x ne16", "0.6x", "0.97x latency", "0.001ms latency"}
    assert found["joint-mpq", "0.35x size", "joint"]["metrics"]["target_share"] <= 1.0
    assert found["joint-mpq", "0.35x size", "fixed"]["metrics"]["bits"]["channels_at_bits"].keys() == {"2"}
    assert found["uniform", "0.35x size", ""]["status"] == "skipped"
    assert found["uniform", "0.35x size", ""]["reason"] == "meets targets in flops"
    assert found["uniform", "0.6x", ""]["status"] == "complete"
    assert found["joint-mpq", "0.6x", "fixed"]["status"] == "infeasible"


def test_a_limit_on_latency_holds_for_the_latency_on_the_board(workspace, capsys):
    found = trials(workspace, capsys)
    result, dense = found["joint-mpq", "0.97x latency", "joint"], found["dense", None, ""]

    assert result["status"] == "complete"
    assert result["metrics"]["latency_ms"] <= 0.97 * dense["metrics"]["latency_ms"]
    share = result["metrics"]["latency_ms"] / (0.97 * dense["metrics"]["latency_ms"])
    assert result["metrics"]["target_share"] == pytest.approx(share)
    assert result["metrics"]["bits"]["channels_at_bits"].keys() == {"8"}
    assert result["spent"]["device_queries"] > 0


def test_only_a_method_that_meets_latencies_is_run_at_one_and_says_what_is_out_of_reach(workspace, capsys):
    found = trials(workspace, capsys)

    assert found["uniform", "0.97x latency", ""]["reason"] == "meets targets in flops"
    assert found["joint-mpq", "0.97x latency", "fixed"]["status"] == "skipped"
    unreachable = found["joint-mpq", "0.001ms latency", "joint"]
    assert unreachable["status"] == "infeasible"
    assert "with the fewest channels the fleet still takes" in unreachable["reason"]


def test_the_board_ranks_limits_on_bits_by_accuracy_and_lists_all_by_size(workspace):
    text = (workspace / "leaderboards" / "bits.md").read_text()

    assert "## stored bytes at most 0.35x" in text
    assert "## NE16 cycles at most 0.7x" in text
    assert "## average clustered latency at most 0.97x" in text
    assert "Most accurate: **joint-mpq" in text
    assert "## All quantised models, fleet six" in text
    assert "Bit-widths:" in text


@pytest.mark.parametrize("kind", ["packed", "onnx"])
def test_a_trial_is_exported(workspace, kind, capsys):
    if kind == "onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    result = trials(workspace, capsys)["joint-mpq", "0.35x size", "joint"]
    path = workspace / f"out.{kind}"

    command = ["export", result["artifact"], "--format", kind, "-o", str(path), "--workspace", str(workspace / "ws")]

    codes = [main(command), main(command), main([*command, "--force"])]

    assert codes == [0, 2, 0]
    told = capsys.readouterr().out
    assert f"{path.stat().st_size:,} bytes" in told
    if kind == "onnx":
        import onnx

        known = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        assert (known["trial"], known["mean"], known["std"]) == (result["artifact"], "[0.0]", "[1.0]")
        assert "of 16 random images" in told
    if kind == "packed":
        assert path.stat().st_size == result["metrics"]["bits"]["packed_bytes"]
        assert load_packed(path).n_weight_bits == 8 * result["metrics"]["bits"]["weight_bytes"]


def test_a_trial_is_exported_as_c_source_and_header(workspace, capsys):
    result = trials(workspace, capsys)["joint-mpq", "0.35x size", "joint"]
    path = workspace / "On Chip.c"
    command = ["export", result["artifact"], "--format", "c", "-o", str(path), "--workspace", str(workspace / "ws")]

    codes = [main(command), main(command), main([*command, "--force"])]

    assert codes == [0, 2, 0]
    assert "int on_chip_run(const int8_t *in, on_chip_score *out)" in capsys.readouterr().out
    assert '#include "On Chip.h"' in path.read_text()
    assert f"trial {result['artifact']}" in path.with_suffix(".h").read_text()
    path.unlink()
    assert main(command) == 2  # its header is there
    assert f"'{path.with_suffix('.h')}' exists" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "said"), [("packed", "to pack"), ("c", "to write as C")])
def test_a_float_trial_cannot_be_packed(workspace, kind, said, capsys):
    result = trials(workspace, capsys)["uniform", "0.6x", ""]
    options = ["--format", kind, "--workspace", str(workspace / "ws")]

    assert main(["export", result["artifact"], *options]) == 2
    assert f"has no bit-widths {said}" in capsys.readouterr().err


def test_an_explanation_has_a_table_of_bits_by_layer(workspace, capsys):
    result = trials(workspace, capsys)["joint-mpq", "0.35x size", "joint"]

    assert main(["explain", result["artifact"], "--workspace", str(workspace / "ws")]) == 0

    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("output channels at "))
    bits = [int(value) for value in lines[head].removesuffix(" bits:").split(" at ")[1].split(" / ")]
    for line, (layer, of_channels) in zip(lines[head + 1 :], result["plan"]["weight_bits"].items(), strict=False):
        assert line.split() == [layer, *(str(of_channels.count(p) or "-") for p in bits)]
