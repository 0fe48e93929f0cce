"""Small files that stand for very much, and files that name code: refused in a line, at little cost."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from hdapbench.cli.main import main
from hdapbench.errors import HdapbenchError
from tests.faults.arena import MARKER, Attack
from tests.faults.stage import Stage

LARGE = 1 << 28
PAYLOAD = f"import os; os.mkdir({MARKER!r})"


def _made(make: Callable[[], object]) -> None:
    """Make a file in another process, whose memory does not count."""
    pid = os.fork()
    if pid == 0:
        make()
        os._exit(0)
    os.waitpid(pid, 0)


def _refused(do: Callable[[], object]) -> str | None:
    try:
        do()
    except HdapbenchError as error:
        print(error)
        return None
    return "it was taken"


def _exits_with_a_line(*arguments: str) -> str | None:
    return None if main([*arguments]) == 2 else "it was taken"


def packed(kind: str) -> str | None:
    """A header that inflates to millions of lists, deep ones, or blanks."""
    from hdapbench.quant.deploy.packed import load_packed

    def make() -> None:
        inner = {"lists": "[" + "[]," * 20_000_000 + "[]]", "deep": "[" * 10_000_000, "blanks": " " * LARGE}[kind]
        text = zlib.compress(inner.encode(), 9)
        content = struct.pack("<4sII", b"HDPQ", 2, len(text)) + text
        Path("bomb.hdpq").write_bytes(content + struct.pack("<I", zlib.crc32(content)))

    _made(make)
    return _refused(lambda: load_packed(Path("bomb.hdpq")))


def parquet() -> str | None:
    """Many equal rows, which take no place."""

    def make() -> None:
        import polars as pl

        n = 100_000_000
        one = {"device": "a", "plan": "p", "latency_ms": 1.0}
        pl.select(**{name: pl.repeat(value, n) for name, value in one.items()}).write_parquet("bomb.parquet")

    _made(make)
    main(["fleet", "show", "bomb.parquet"])
    return None


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _with_data(stage: Stage, source: str) -> None:
    spec = (stage.root / "tiny.yaml").read_text()
    Path("bomb.yaml").write_text(
        spec.replace("data: {name: digits}", f"data: {{name: imagefolder, path: {source}, search_share: 0.25}}")
    )


def picture(stage: Stage, kind: str) -> str | None:
    """A picture of 3.6 gigapixels, or with a text of 256 MiB."""
    stage.copied("pictures")
    path = Path("pictures/train/ant/0.png")
    content = path.read_bytes()
    if kind == "pixels":
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(30_000))), (b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))
    else:
        text = _chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(LARGE), 9))
        path.write_bytes(content[:33] + text + content[33:])
    _with_data(stage, "pictures")
    return _exits_with_a_line("run", "bomb.yaml", "--quiet")


class _Zeros:
    def read(self, n: int = -1) -> bytes:
        return bytes(n)


def archive(stage: Stage, kind: str) -> str | None:
    """Members of gigabytes of zeros."""
    name = f"bomb.{kind}"

    def make() -> None:
        if kind == "zip":
            with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as file:
                for number in range(4):
                    with file.open(f"train/{'ab'[number % 2]}/{number}.png", "w", force_zip64=True) as member:
                        for _ in range(64):
                            member.write(bytes(1 << 23))
        else:
            with tarfile.open(name, "w:gz", compresslevel=1) as file:
                for number in range(4):
                    info = tarfile.TarInfo(f"train/{'ab'[number % 2]}/{number}.png")
                    info.size = LARGE * 2
                    file.addfile(info, _Zeros())

    _made(make)
    _with_data(stage, name)
    return _exits_with_a_line("run", "bomb.yaml", "--quiet")


def yaml(kind: str) -> str | None:
    """Aliases of aliases, deep lists, long numbers."""
    steps = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    aliases = "\n".join([f"a0: &a0 [{','.join('x' * 10)}]", *steps])
    Path("bomb.yaml").write_text({"aliases": aliases, "deep": "[" * 200_000, "long": "a: " + "9" * 3_000_000}[kind])
    return _exits_with_a_line("check", "bomb.yaml")


def weights(stage: Stage, kind: str) -> str | None:
    """A checkpoint of gigabytes of zeros, deflated; a pickle; a tar with a pipe."""

    def make() -> None:
        import torch

        if kind == "deflated":
            torch.save({"w": torch.zeros(1 << 31, dtype=torch.uint8)}, "plain.pt")
            with zipfile.ZipFile("plain.pt") as source, zipfile.ZipFile("w.pt", "w", zipfile.ZIP_DEFLATED) as target:
                for member in source.infolist():
                    with source.open(member) as old, target.open(member.filename, "w", force_zip64=True) as new:
                        while piece := old.read(1 << 24):
                            new.write(piece)
            Path("plain.pt").unlink()
        elif kind == "tar with pipes":
            with tarfile.open("w.pt", "w") as file:
                for member in ("storages", "tensors", "pickle"):
                    info = tarfile.TarInfo(member)
                    info.type = tarfile.FIFOTYPE
                    file.addfile(info)
        else:
            Path("w.pt").write_bytes(pickle.dumps(_Runs(), protocol=2))

    _made(make)
    spec = (stage.root / "tiny.yaml").read_text().replace("model: {", "model: {weights: w.pt, ")
    Path("bomb.yaml").write_text(spec)
    return _exits_with_a_line("check", "bomb.yaml")


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, (PAYLOAD,)


def bombs(stage: Stage) -> Iterator[Attack]:
    """All of them."""
    for kind in ("lists", "deep", "blanks"):
        yield Attack("bombs", f"packed: {kind}", lambda kind=kind: packed(kind))
    yield Attack("bombs", "parquet", parquet)
    for kind in ("pixels", "text"):
        yield Attack("bombs", f"picture: {kind}", lambda kind=kind: picture(stage, kind))
    for kind in ("zip", "tar.gz"):
        yield Attack("bombs", f"archive: {kind}", lambda kind=kind: archive(stage, kind))
    for kind in ("aliases", "deep", "long"):
        yield Attack("bombs", f"yaml: {kind}", lambda kind=kind: yaml(kind))
    yield Attack("bombs", "weights: deflated", lambda: weights(stage, "deflated"))


NET = f"{PAYLOAD}\nfrom torch import nn\ndef build(n_classes): return nn.Linear(1, n_classes)\n"
PLUGIN = f"{PAYLOAD}\n"
MODELS = (
    ("os:system", "{command: mkdir ran}"),
    ("os:mkdir", "{path: ran}"),
    ("subprocess:getoutput", "{cmd: mkdir ran}"),
    ("builtins:exec", "{}"),
    ("pathlib:Path.mkdir", "{}"),
    ("shutil:copytree", "{src: inner, dst: ran}"),
    ("runpy:run_path", "{path_name: net.py}"),
    ("torch:load", "{f: w.pt, weights_only: false}"),
    ("torch.hub:load", "{repo_or_dir: ., model: build, source: local}"),
    ("numpy:load", "{file: w.pt, allow_pickle: true}"),
    ("torch.utils.cpp_extension:load", "{name: x, sources: []}"),
    ("./net.py:build", "{}"),
    ("net.py:build", "{}"),
    ("inner/../net.py:build", "{}"),
    ("net:build", "{}"),
    ("ultralytics:net.yaml", "{}"),
)


def code_in_specs(stage: Stage, command: str, model: str, arguments: str) -> str | None:
    """A spec that names code, without a word of the user."""
    os.environ["HDAPBENCH_TRUST"] = ""
    os.environ["HOME"] = os.environ["XDG_STATE_HOME"] = str(Path.cwd().parent)
    Path("inner").mkdir()
    for name in ("net.py", "hubconf.py"):
        Path(name).write_text(NET)
    Path("w.pt").write_bytes(pickle.dumps(_Runs(), protocol=2))
    Path("net.yaml").write_text(
        f'nc: 2\nactivation: "exec({PAYLOAD!r})"\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[-1, 1, Classify, [nc]]]\n'
    )
    spec = (stage.root / "tiny.yaml").read_text()
    Path("s.yaml").write_text(spec.replace("name: resnet8", f"name: {model!r}, arguments: {arguments}"))
    return _exits_with_a_line(command, "s.yaml")


def plugins_in_specs(stage: Stage, command: str, plugin: str) -> str | None:
    """A spec that names a file of methods."""
    os.environ["HDAPBENCH_TRUST"] = ""
    os.environ["HOME"] = os.environ["XDG_STATE_HOME"] = str(Path.cwd().parent)
    Path("mine").mkdir()
    for name in ("mine.py", "mine/__init__.py"):
        Path(name).write_text(PLUGIN)
    Path("s.yaml").write_text((stage.root / "tiny.yaml").read_text() + f"plugins: [{plugin}]\n")
    return _exits_with_a_line(command, "s.yaml")


def forged_description(stage: Stage, model: str) -> str | None:
    """An artifact whose description names code."""
    from hdapbench.run.artifact import open_saved

    folder = Path(".hdapbench/artifacts", json.loads((stage.root / "artifact.json").read_text()))
    stage.copied(str(folder))
    Path("net.py").write_text(NET)
    about = json.loads((folder / "description.json").read_text())
    about["model"]["name"], about["base_dir"] = model, str(Path.cwd())
    (folder / "description.json").write_text(json.dumps(about))
    return _refused(lambda: open_saved(folder))


def code_in_data(stage: Stage) -> Iterator[Attack]:
    """Specs, plug-ins in specs, weights and descriptions that name code."""
    for command in ("check", "run"):
        for model, arguments in MODELS:
            yield Attack(
                "code in specs, weights and descriptions",
                f"{command}: model {model}",
                lambda command=command, model=model, arguments=arguments: code_in_specs(
                    stage, command, model, arguments
                ),
            )
        for plugin in ("./mine.py", "mine", "mine.py"):
            yield Attack(
                "code in specs, weights and descriptions",
                f"{command}: plug-in {plugin}",
                lambda command=command, plugin=plugin: plugins_in_specs(stage, command, plugin),
            )
    for kind in ("pickle", "tar with pipes"):
        yield Attack(
            "code in specs, weights and descriptions", f"weights: {kind}", lambda kind=kind: weights(stage, kind)
        )
    for model, _ in MODELS[:-1]:
        yield Attack(
            "code in specs, weights and descriptions",
            f"description: {model}",
            lambda model=model: forged_description(stage, model),
        )
