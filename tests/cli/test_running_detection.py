"""Detection from spec to board, on generated scenes: quiet, offline, and inside the workspace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hdapbench.cli.main import main
from hdapbench.data import scenes
from tests.zoo import needs_yolo

pytestmark = needs_yolo

ROOT = Path(__file__).parents[2]
SPEC = """\
schema_version: 1
name: scenes
model: {name: "ultralytics:yolov8n.yaml", input_shape: [3, 64, 64]}
task: detection
data: {name: digit-scenes, augment: mosaic, search_share: 0.2}
base: {epochs: 0, optimizer: adamw, learning_rate: 2.0e-3, batch_size: 8}
fine_tune: {epochs: 1, optimizer: adamw, learning_rate: 1.0e-3, batch_size: 8}
fleets:
  - {name: six, kind: simulated, sku: xavier_nx, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}
targets: [{flops: 0.5x}]
methods: METHODS
"""
METHODS = """
  - uniform
  - {name: torch-pruning, parameters: {importance: taylor, n_images: 8}}
  - {name: hdap, parameters: {n_plans: 12, evaluations: 200, active_plans: 0, shortlist: 1}}
"""
NO_NETWORK = """\
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit(f"touched the network: {arguments}")
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = refuse
from hdapbench.data import scenes
scenes.N_TRAIN, scenes.N_TEST = 20, 6
from hdapbench.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def write_spec(folder: Path, methods: str) -> Path:
    path = folder / "scenes.yaml"
    path.write_text(SPEC.replace("METHODS", methods))
    return path


def test_methods_of_every_kind_prune_a_detector(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scenes, "N_TRAIN", 20)
    monkeypatch.setattr(scenes, "N_TEST", 6)
    spec = write_spec(tmp_path, METHODS)

    output = tmp_path / "scenes.md"
    code = main(["run", str(spec), "--workspace", str(tmp_path / "work"), "--output", str(output), "--json"])

    results = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [result["trial"]["method"] for result in results] == ["dense", "uniform", "torch-pruning", "hdap"]
    for result in results:
        metrics = result["metrics"]
        assert (result["status"], result["reason"]) == ("complete", None)
        assert 0.0 <= metrics["accuracy"] <= metrics["map50"] <= 1.0
        assert metrics["mask_difference"] < 1e-3
        if metrics["flops_target"] is not None:
            assert metrics["flops"] <= metrics["flops_target"]
            assert result["trial"]["method"] == "hdap" or metrics["flops"] > 0.9 * metrics["flops_target"]
            assert metrics["fine_tune_epochs"] == 1.0


def test_a_run_touches_neither_network_nor_home_nor_the_current_folder(tmp_path):
    home, place = tmp_path / "home", tmp_path / "place"
    for folder in (home, place):
        folder.mkdir()
    spec = write_spec(tmp_path, "[uniform]")
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary")}
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR"):
        environment.pop(name, None)
    (tmp_path / "temporary").mkdir()

    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "run", str(spec), "--workspace", str(tmp_path / "work")],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "ultralytics" not in (done.stdout + done.stderr).lower()
    assert [path for folder in (home, tmp_path / "temporary") for path in folder.rglob("*")] == []
    written = {path.name for path in place.rglob("*") if path.is_file()}
    assert written == {"scenes.md", "scenes.html", "scenes.jsonl.zst"}  # the board, and no runs/
    assert "mAP50-95" in (place / "leaderboards" / "scenes.md").read_text()
