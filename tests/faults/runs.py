"""Disks that are full, runs at once, outputs that cannot be written, and odd folders of images."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from hdapbench.cli.main import main
from tests.faults.arena import Attack
from tests.faults.stage import SPEC, WORKSPACE, Stage, kept_at_every_step, run


def forked(do: Callable[[], int]) -> int:
    """Exit code of something in a process of its own; negative: the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        os._exit(do())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(name: str = "tiny.yaml", *options: str) -> int:
    return run(name, "--quiet", "--output", f"{name}.md", *options)


def with_pictures() -> str:
    return SPEC.replace("data: {name: digits}", "data: {name: imagefolder, path: pictures, search_share: 0.25}")


def _on_a_small_disk(kib: int, do: Callable[[], int]) -> int | None:
    """Exit code of something that writes to the folder ``small``; None where no disk can be mounted."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={kib}k", "none", "small"]
    if mount is None or umount is None or subprocess.run(command, capture_output=True).returncode:
        return None
    code = forked(do)
    shutil.copytree("small", "kept")
    subprocess.run([umount, "small"], check=True)
    return code


def _with_small_files(kib: int, do: Callable[[], int]) -> int:
    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, resource.RLIM_INFINITY))
        return do()

    code = forked(limited)
    shutil.copytree("small", "kept")
    return code


def disk_full(stage: Stage) -> Iterator[Attack]:
    """A limit on files, or a small disk: a line, and the run goes on to the same board where there is room."""

    def attack(kib: int, limit: Callable[[int, Callable[[], int]], int | None]) -> str | None:
        stage.copied("pictures")
        Path("tiny.yaml").write_text(with_pictures())
        Path("small").mkdir()
        code = limit(kib, lambda: _run("tiny.yaml", "--workspace", "small/ws"))
        if code is None:
            print("no disk can be mounted here")
            return None
        if code not in (0, 1, 2):
            return f"ended with {code}"
        for workspace in ("kept/ws", "fresh"):
            if forked(lambda workspace=workspace: _run("tiny.yaml", "--workspace", workspace, "--retry-failed")):
                return f"the next run in {workspace} fails"
            Path("tiny.yaml.md").rename(f"{Path(workspace).name}.md")
        same = Path("ws.md").read_bytes() == Path("fresh.md").read_bytes()
        return None if same else "another board after it went on"

    for kib in (1, 20, 40, 100, 200, 300):
        yield Attack("disk full", f"files of {kib} KiB", lambda kib=kib: attack(kib, _with_small_files))
    for kib in (64, 160, 400, 700):
        yield Attack("disk full", f"a disk of {kib} KiB", lambda kib=kib: attack(kib, _on_a_small_disk))


def at_once(stage: Stage) -> Iterator[Attack]:
    """Runs of one spec, and of three under one name, at the same time: the boards of runs one after another."""

    def attack(rates: tuple[float, ...]) -> str | None:
        specs = []
        for number, rate in enumerate(rates):
            text = SPEC.replace("fine_tune: {epochs: 1,", f"fine_tune: {{epochs: 1, learning_rate: {rate},")
            Path(f"{number}.yaml").write_text(text)
            specs.append(f"{number}.yaml")
        children = []
        for spec in specs:
            pid = os.fork()
            if pid == 0:
                with kept_at_every_step():  # of each other, too
                    os._exit(_run(spec))
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        if any(codes):
            return f"ended with {codes}"
        for spec in specs:
            if forked(lambda spec=spec: run(spec, "--quiet", "--output", "right.md", "--workspace", f"ws-{spec}")):
                return "the run alone fails"
            if Path("right.md").read_bytes() != Path(f"{spec}.md").read_bytes():
                return f"another board than alone ({spec})"
        return None

    name = "2 and 8 runs of a spec at once, three settings under one name"
    yield Attack(name, "twice", lambda: attack((0.05, 0.05)))
    yield Attack(name, "eight times", lambda: attack((0.05,) * 8))
    yield Attack(name, "three settings", lambda: attack((0.01, 0.05, 0.2)))


OUTPUTS = (
    ["board", "tiny", "--output", "/dev/full"],
    ["board", "tiny", "--output", "tiny.yaml/x.md"],
    ["board", "tiny", "--output", "."],
    ["board", "tiny", "--output", "/proc/x.md"],
    ["board", "\x1b[2J\n# heading"],
    ["show", "\x1b[2J"],
    ["show", ""],
    ["explain", "zzzz"],
    ["export", "a", "--output", "/dev/full"],
    ["check", "/dev/null"],
    ["check", "."],
    ["check", "\x00"],
    ["check", "absent\x1b[2J.yaml"],
    ["run", "tiny.yaml", "--workspace", "/dev/null"],
    ["run", "tiny.yaml", "--workspace", "/proc/x"],
    ["run", "tiny.yaml", "--output", "/dev/null/x"],
    ["run", "tiny.yaml", "--set", "seeds=[99999999999999999999]"],
    ["run", "tiny.yaml", "--set", "threads=1e9"],
    ["run", "tiny.yaml", "--set", "\x1b[2J=1"],
    ["run", "tiny.yaml", "--method", "\x1b[2J"],
    ["run", "tiny.yaml", "--method", "./absent.py"],
    ["run", "tiny.yaml", "--method", "/dev/null"],
    ["fleet", "show", "/dev/null"],
    ["fleet", "estimate", "tiny.yaml", "--plot", "/dev/full"],
    ["methods", "test", "/dev/null"],
    ["measure", "\x1b[2J"],
)


def on_outputs(stage: Stage) -> Iterator[Attack]:
    """Places that cannot be written to, and words that make no sense."""

    def attack(arguments: list[str]) -> str | None:
        stage.copied("tiny.yaml", WORKSPACE)
        try:
            main(arguments)
        except SystemExit:
            return None
        return None

    for arguments in OUTPUTS:
        yield Attack("outputs and words", repr(arguments), lambda arguments=arguments: attack(arguments))


def _odd_folders() -> dict[str, Callable[[Path], object]]:
    """Name -> what is done to a folder of images of one class."""
    from PIL import Image

    def image(mode: str, size: tuple[int, int] = (8, 8), **options: object) -> Callable[[Path], object]:
        suffix = options.pop("suffix", "png")
        return lambda f: Image.new(mode, size).save(f / f"odd.{suffix}", **options)

    def bytes_of(name: str, content: bytes) -> Callable[[Path], object]:
        return lambda f: (f / name).write_bytes(content)

    def listening(f: Path) -> object:
        return socket.socket(socket.AF_UNIX).bind(str(f / "odd.png")[-100:])

    modes = {m: image(m) for m in ("1", "L", "LA", "P", "RGBA", "I;16")}
    return modes | {
        "CMYK": image("CMYK", suffix="jpg"),
        "float tiff": image("F", suffix="tif"),
        "gif": image("P", suffix="gif"),
        "webp": image("RGB", suffix="webp"),
        "one pixel": image("L", (1, 1)),
        "very wide": image("L", (20_000, 1)),
        "large": image("L", (9_000, 9_000)),
        "empty file": bytes_of("odd.png", b""),
        "text as png": bytes_of("odd.png", b"hello"),
        "cut": lambda f: (f / "odd.png").write_bytes((f / "0.png").read_bytes()[:40]),
        "other suffix": bytes_of("odd.txt", b"x"),
        "no suffix": lambda f: shutil.copy(f / "0.png", f / "odd"),
        "upper case": lambda f: shutil.copy(f / "0.png", f / "ODD.PNG"),
        "hidden": lambda f: shutil.copy(f / "0.png", f / ".odd.png"),
        "svg": bytes_of("odd.svg", b"<svg/>"),
        "broken link": lambda f: (f / "odd.png").symlink_to("nowhere"),
        "link to itself": lambda f: (f / "odd.png").symlink_to("odd.png"),
        "link to the root": lambda f: (f / "odd").symlink_to("/"),
        "link to a device": lambda f: (f / "odd.png").symlink_to("/dev/zero"),
        "link above": lambda f: (f / "odd").symlink_to(".."),
        "pipe": lambda f: os.mkfifo(f / "odd.png"),
        "socket": listening,
        "folder called png": lambda f: (f / "odd.png").mkdir(),
        "name that is no text": lambda f: shutil.copy(f / "0.png", os.fsencode(f) + b"/\xff\xfe.png"),
        "name with a newline": lambda f: shutil.copy(f / "0.png", f / "a\n# b\x1b[2J.png"),
        "name with an escape, broken": bytes_of("\x1b[2J.png", b"x"),
        "long name": lambda f: shutil.copy(f / "0.png", f / ("x" * 250 + ".png")),
        "deep": lambda f: (f / "/".join("d" * 60)).mkdir(parents=True),
        "empty class": lambda f: (f.parent / "empty").mkdir(),
        "class in test alone": lambda f: shutil.copytree(f, f.parents[1] / "test" / "only"),
        "class that is a link": lambda f: (f.parent / "linked").symlink_to(f),
        "class of no pictures": lambda f: [p.write_bytes(b"x") for p in f.iterdir()],
        "class with an escape": lambda f: shutil.copytree(f, f.parent / "\x1b[2J"),
        "no test": lambda f: shutil.rmtree(f.parents[1] / "test"),
        "no train": lambda f: shutil.rmtree(f.parents[1] / "train"),
        "one class": lambda f: [shutil.rmtree(p) for p in f.parent.iterdir() if p != f],
        "a file as class": bytes_of("../file", b"x"),
        "unreadable": lambda f: (f / "0.png").chmod(0),
    }


def on_images(stage: Stage) -> Iterator[Attack]:
    """Oddities in a folder of images: read, counted as left out, or refused."""

    def attack(name: str) -> str | None:
        stage.copied("pictures")
        Path("tiny.yaml").write_text(with_pictures())
        _odd_folders()[name](Path("pictures/train/ant"))
        main(["check", "tiny.yaml"])
        run("tiny.yaml")
        skip = ["--set", "data.corrupt=skip", "--workspace", "skipping"]
        run("tiny.yaml", "--quiet", "--set", "methods=[uniform]", *skip)
        return None

    for name in _odd_folders():
        yield Attack("image folder oddities", name, lambda name=name: attack(name))
