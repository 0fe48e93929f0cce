"""Attacks on what the program keeps or is given: database, caches, artifacts, fleets, packed networks."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hdapbench.cli.main import main
from hdapbench.errors import HdapbenchError
from tests.faults.arena import Attack
from tests.faults.stage import WORKSPACE, Stage, damaged, mutated

ODD = (None, True, -1, 0, 1e300, 2**70, "text", "nan", "", [], {}, [1, [2]], {"a": {}}, 10**9)


def on_database(stage: Stage, n: int) -> Iterator[Attack]:
    """A damaged ``results.db``: the same board, or a line that says what is damaged."""

    def attack(number: int) -> str | None:
        rng = stage.rng("database", number)
        path = Path(WORKSPACE, "results.db")
        path.parent.mkdir()
        path.write_bytes(damaged((stage.root / path).read_bytes(), rng.choice(("bits", "zeroed", "cut")), rng))
        code = main(["board", "tiny", "--output", "board.md"])
        for command in (
            ["show", "tiny"],
            ["check", str(stage.root / "tiny.yaml")] if number % 20 == 0 else ["show", "a"],
        ):
            main(command)
        if code == 0 and Path("board.md").read_bytes() != (stage.root / "board.md").read_bytes():
            return "another board, without a word"
        return None

    for number in range(n):
        yield Attack("results.db damaged", f"database {number}", lambda number=number: attack(number))


def on_base_cache(stage: Stage, n: int) -> Iterator[Attack]:
    """A damaged base model: found, and trained again to the same."""

    def attack(number: int) -> str | None:
        from hdapbench.cli.progress import Silence
        from hdapbench.run.prepare import Preparation
        from hdapbench.run.workspace import Workspace
        from hdapbench.spec import load

        stage.copied(f"{WORKSPACE}/cache")
        path = next(Path(WORKSPACE, "cache", "base").glob("*.pt"))
        rng = stage.rng("base", number)
        path.write_bytes(damaged(path.read_bytes(), ("bits", "zeroed", "cut")[number % 3], rng))
        prepared = Preparation(load(stage.root / "tiny.yaml", []), Workspace(Path(WORKSPACE)), Silence())
        known = json.loads((stage.root / "base.json").read_text())
        return None if prepared.base.hash == known else "another base model"

    for number in range(n):
        yield Attack("base cache damaged", f"base {number}", lambda number=number: attack(number))


def base_hash(root: Path) -> None:
    """What the base of the workspace is."""
    from hdapbench.models import kept_state, state_hash

    state = kept_state(next((root / WORKSPACE / "cache" / "base").glob("*.pt")))
    (root / "base.json").write_text(json.dumps(state_hash(state)))


def _content(root: Path, cache: Path) -> str:
    """Hash of all images and labels as they are read."""
    import hashlib

    from hdapbench.data import load_data
    from hdapbench.spec import DataSpec

    spec = DataSpec(name="imagefolder", path=str(root / "pictures"), search_share=0.25)
    data = load_data(spec, (1, 8, 8), base_dir=root, cache_dir=cache, on_progress=print)
    digest = hashlib.sha256()
    for part in (data.train, data.search, data.test):
        for images, labels in part.batches(64, shuffle_seed=None):
            digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
    return digest.hexdigest()


def decoded(root: Path) -> None:
    """A cache of decoded images, and what it holds."""
    (root / "content.json").write_text(json.dumps(_content(root, root / "decoded")))


def on_decoded_images(stage: Stage, n: int) -> Iterator[Attack]:
    """A damaged cache of decoded images: found, and decoded again."""

    def attack(number: int) -> str | None:
        stage.copied("decoded", "pictures")
        rng = stage.rng("decoded", number)
        path = rng.choice(sorted(path for path in Path("decoded").rglob("*") if path.is_file()))
        path.write_bytes(damaged(path.read_bytes(), rng.choice(("bits", "bits", "zeroed", "cut")), rng))
        known = json.loads((stage.root / "content.json").read_text())
        return None if _content(stage.root, Path("decoded")) == known else f"other images ({path})"

    for number in range(n):
        yield Attack("decoded images damaged", f"decoded {number}", lambda number=number: attack(number))


FLEETS = ("lab.csv", "lab.parquet", "matrix.csv", "fingerprint.parquet", "matrix.plans.json")
COMMANDS = ("show", "estimate", "cluster", "plan", "fingerprint", "drift")


def on_fleets(stage: Stage, n: int) -> Iterator[Attack]:
    """Changed recordings and fingerprints: an answer, or a line."""

    def attack(number: int) -> str | None:
        rng = stage.rng("fleets", number)
        name = FLEETS[number % len(FLEETS)]
        stage.copied("matrix.csv", "matrix.plans.json")
        Path(name).write_bytes(mutated((stage.root / name).read_bytes(), rng))
        source = name.replace(".plans.json", ".csv")
        command = rng.choice(COMMANDS)
        extra = ["-o", "out.parquet"] if command == "fingerprint" else []
        main(["fleet", command, source, *extra])
        return None

    for number in range(n):
        yield Attack("fleets as CSV, Parquet, fingerprints", f"fleet {number}", lambda number=number: attack(number))


def _parts(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(found for key, value in inner for found in _parts(value, (*path, key)))]


def _changed(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.deepcopy(values)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def _odd_json(text: str, number: int, rng: Any) -> bytes:
    """JSON with one value changed, or its bytes."""
    if number % 2:
        return mutated(text.encode(), rng)
    values = json.loads(text)
    return json.dumps(_changed(values, rng.choice(_parts(values)), rng.choice(ODD))).encode()


def on_artifacts(stage: Stage, n: int) -> Iterator[Attack]:
    """Changed plans, descriptions and weights of an artifact: the same network, or a line."""

    def attack(number: int) -> str | None:
        import torch

        from hdapbench.run.artifact import open_saved

        rng = stage.rng("artifacts", number)
        trial = json.loads((stage.root / "artifact.json").read_text())
        folder = Path(WORKSPACE, "artifacts", trial)
        stage.copied(str(folder), "probe.pt")
        name = ("plan.json", "description.json", "state.pt")[number % 3]
        content = (folder / name).read_bytes()
        changed = (
            damaged(content, rng.choice(("bits", "zeroed", "cut")), rng)
            if name == "state.pt"
            else _odd_json(content.decode(), number // 3, rng)
        )
        (folder / name).write_bytes(changed)
        try:
            compact = open_saved(folder).compact
        except HdapbenchError as error:
            print(error)
            return None
        probe, right = torch.load("probe.pt")
        with torch.no_grad():
            return None if torch.equal(compact(probe), right) else f"another network ({name})"

    for number in range(n):
        yield Attack(
            "plan / description / state of artifacts", f"artifact {number}", lambda number=number: attack(number)
        )


def artifact(root: Path) -> None:
    """Which artifact is attacked, and what its network computes."""
    import torch

    from hdapbench.run.artifact import load_plan, open_saved

    for folder in sorted((root / WORKSPACE / "artifacts").iterdir()):
        saved = open_saved(folder)
        if any(len(kept) > 1 for kept in load_plan(folder).kept.values()) and saved.compact is not saved.dense:
            probe = torch.randn(2, *saved.input_shape)
            with torch.no_grad():
                torch.save((probe, saved.compact(probe)), root / "probe.pt")
            (root / "artifact.json").write_text(json.dumps(folder.name))


def on_packed(stage: Stage, n: int) -> Iterator[Attack]:
    """Packed networks: damaged ones, and forged ones with every checksum right."""

    def attack(number: int) -> str | None:
        import torch

        from hdapbench.quant.deploy.execute import run_integer
        from hdapbench.quant.deploy.onnx_export import export_onnx
        from hdapbench.quant.deploy.packed import load_packed
        from tests.quant.quant_networks import images

        rng = stage.rng("packed", number)
        content = (stage.root / "model.hdpq").read_bytes()
        is_forged = number % 2 == 1
        changed = _forged(content, rng) if is_forged else damaged(content, rng.choice(("bits", "zeroed", "cut")), rng)
        Path("model.hdpq").write_bytes(changed)
        try:
            model = load_packed(Path("model.hdpq"))
            if is_forged:
                export_onnx(model, Path("model.onnx"))
                return None
        except HdapbenchError as error:
            print(error)
            return None
        right = torch.load(stage.root / "computed.pt")
        return None if torch.equal(run_integer(model, images(4)), right) else "another network"

    for number in range(n):
        yield Attack("packed networks", f"packed {number}", lambda number=number: attack(number))


def _forged(content: bytes, rng: Any) -> bytes:
    (length,) = struct.unpack_from("<I", content, 8)
    header = json.loads(zlib.decompress(content[12 : 12 + length]))
    header = _changed(header, rng.choice(_parts(header)), rng.choice(ODD))
    text = zlib.compress(json.dumps(header).encode())
    forged = struct.pack("<4sII", b"HDPQ", 2, len(text)) + text + content[12 + length : -4]
    return forged + struct.pack("<I", zlib.crc32(forged))


def on_kernels(stage: Stage, n: int) -> Iterator[Attack]:
    """Descriptions of plans with any value changed: read, or refused."""

    def attack(number: int) -> str | None:
        rng = stage.rng("kernels", number)
        stage.copied("matrix.csv")
        Path("matrix.plans.json").write_bytes(_odd_json((stage.root / "matrix.plans.json").read_text(), number, rng))
        main(["fleet", rng.choice(("estimate", "show")), "matrix.csv", *([] if number % 3 else ["--json"])])
        return None

    for number in range(n):
        yield Attack("descriptions of plans and kernels", f"kernels {number}", lambda number=number: attack(number))
