"""What ends or unsettles a run: kills in every phase, disks that cannot be written, clocks, data and losses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.arena import Attack
from tests.faults.runs import forked, with_pictures
from tests.faults.stage import SPEC, WORKSPACE, Stage, damaged, kept_at_every_step, run

RUN = ("tiny.yaml", "--quiet", "--output", "board.md")
LIVE = ("--set", "data.decode=live")
PHASES = ("cache/data", "cache/checkpoints", "cache/base", "artifacts", "results.db-wal", "../board.md")
"""What appears in the workspace, one after another, as a run goes on."""


def _begin(stage: Stage) -> None:
    """A spec on pictures, and a workspace that knows of its network and nothing else."""
    stage.copied("pictures", f"{WORKSPACE}/cache/inspection")
    Path("tiny.yaml").write_text(with_pictures())


def _killed_at(phase: str, seconds: float) -> None:
    """Start a run, and kill it so long after something of a phase appeared."""
    pid = os.fork()
    if pid == 0:
        with kept_at_every_step():
            os._exit(run(*RUN))
    path, deadline = Path(WORKSPACE, phase), time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(seconds)
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):  # it had ended
        return


def pictures_board(root: Path) -> None:
    """The board of a run on pictures that nothing happened to."""
    os.chdir(root)
    Path("tiny.yaml").write_text(with_pictures())
    if run("tiny.yaml", "--quiet", "--output", "pictures.md", "--workspace", "of-pictures"):
        raise RuntimeError("the run failed")
    Path("tiny.yaml").write_text(SPEC)
    shutil.copytree("of-pictures/cache/inspection", f"{WORKSPACE}/cache/inspection", dirs_exist_ok=True)


def _goes_on(stage: Stage) -> str | None:
    """What is wrong with the run that comes after a fault: it must end with the board of one without."""
    code = forked(lambda: run(*RUN))
    if code:
        return f"the next run ends with {code}"
    return None if Path("board.md").read_bytes() == (stage.root / "pictures.md").read_bytes() else "another board"


def killed(stage: Stage, n: int) -> Iterator[Attack]:
    """Runs that are killed somewhere, once or twice: the next one ends with the same board, and nothing is left."""

    def attack(number: int) -> str | None:
        rng = stage.rng("killed", number)
        _begin(stage)
        for _ in range(rng.choice((1, 1, 2))):
            _killed_at(PHASES[number % len(PHASES)], rng.choice((0.0, 0.01, 0.1, 0.5)) * rng.random())
        return _goes_on(stage)

    for number in range(n):
        yield Attack("killed runs", f"kill {number}", lambda number=number: attack(number))


def on_checkpoints(stage: Stage, n: int) -> Iterator[Attack]:
    """Checkpoints of a killed training that are damaged, cut or taken away: said, and the training begins anew."""

    def attack(number: int) -> str | None:
        rng = stage.rng("checkpoints", number)
        _begin(stage)
        _killed_at("cache/checkpoints", 0.3 * rng.random())
        for path in sorted(Path(WORKSPACE, "cache", "checkpoints").rglob("*.ckpt")):
            kind = rng.choice(("bits", "zeroed", "cut", "away"))
            path.unlink() if kind == "away" else path.write_bytes(damaged(path.read_bytes(), kind, rng))
        return _goes_on(stage)

    for number in range(n):
        yield Attack("checkpoints damaged", f"checkpoint {number}", lambda number=number: attack(number))


def deleted(stage: Stage, n: int) -> Iterator[Attack]:
    """Any file of a finished workspace that is taken away: the same board, what is missed being made again."""

    def attack(number: int) -> str | None:
        stage.copied("tiny.yaml", WORKSPACE)
        files = sorted(path for path in Path(WORKSPACE).rglob("*") if path.is_file())
        stage.rng("deleted", number).choice(files).unlink()
        if code := forked(lambda: run(*RUN)):
            return f"the next run ends with {code}"
        return None if Path("board.md").read_bytes() == (stage.root / "board.md").read_bytes() else "another board"

    for number in range(n):
        yield Attack("files of the workspace deleted", f"file {number}", lambda number=number: attack(number))


def _mounted_read_only(folder: str) -> bool:
    """Whether a folder of the current one is read-only now, also for the superuser."""
    commands = (["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder])
    return all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


def read_only(stage: Stage) -> Iterator[Attack]:
    """Folders that cannot be written to: refused in a line before anything is spent, and the run goes on later."""

    def attack(folder: str, *options: str) -> str | None:
        _begin(stage)
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not _mounted_read_only(folder):
            print("nothing can be mounted here")
            return None
        code = forked(lambda: run(*RUN, *options))
        spent = [path for path in Path().rglob("*") if path.parent.name in ("base", "artifacts")]
        subprocess.run([shutil.which("umount") or "umount", folder], check=True)
        if code != 2:
            return f"ended with {code}"
        return f"spent before it was refused: {spent[0]}" if spent else _goes_on(stage)

    yield Attack("read-only", "the workspace", lambda: attack(WORKSPACE))
    yield Attack("read-only", "its cache", lambda: attack(f"{WORKSPACE}/cache"))
    yield Attack("read-only", "the board's folder", lambda: attack("out", "--output", "out/board.md"))


def clocks(stage: Stage) -> Iterator[Attack]:
    """Clocks that jump: the same board."""

    def attack(jump: Callable[[int], float]) -> str | None:
        _begin(stage)
        now, calls = time.time, [0]

        def jumping() -> float:
            calls[0] += 1
            return now() + jump(calls[0])

        def run_on_it() -> int:
            time.time = jumping
            return run(*RUN)

        code = forked(run_on_it)
        return f"ended with {code}" if code else _goes_on(stage)

    year = 365.0 * 24 * 3600
    jumps: dict[str, Callable[[int], float]] = {
        "a year ahead": lambda n: year if n > 20 else 0.0,
        "ten years back": lambda n: -10 * year if n > 20 else 0.0,
        "to and fro": lambda n: (-1) ** n * year,
        "before 1970": lambda _: -60 * year,
    }
    for name, jump in jumps.items():
        yield Attack("clock jumps", name, lambda jump=jump: attack(jump))


def data_midway(stage: Stage) -> Iterator[Attack]:
    """Pictures that fail while a run reads them: a line, and the run goes on when they are back."""

    def attack(harm: Callable[[Path], object], *options: str) -> str | None:
        _begin(stage)
        victim = Path("pictures/train/bee/3.png").resolve()
        content = victim.read_bytes()

        def run_it() -> int:
            from hdapbench.data import decode, reading

            decoded, seen = decode.decode_image, [0]

            def failing(*arguments):  # the picture goes while others are read
                seen[0] += 1
                if seen[0] == 5:
                    harm(victim)
                return decoded(*arguments)

            for module in (decode, reading, *_users_of_decoding()):
                if vars(module).get("decode_image") is decoded:
                    module.decode_image = failing
            return run(*RUN, *options)

        code = forked(run_it)
        victim.parent.mkdir(exist_ok=True)
        victim.write_bytes(content)
        return f"ended with {code}" if code not in (0, 1, 2) else _goes_on(stage)

    harms: dict[str, Callable[[Path], object]] = {
        "gone": lambda path: path.unlink(missing_ok=True),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:30]),
        "another": lambda path: path.write_bytes((path.parent / "4.png").read_bytes()),
        "empty": lambda path: path.write_bytes(b""),
    }
    for name, harm in harms.items():
        yield Attack("data that fail midway", name, lambda harm=harm: attack(harm))
        yield Attack("data that fail midway", f"{name}, decoded live", lambda harm=harm: attack(harm, *LIVE))


def _users_of_decoding() -> list[object]:
    import sys

    return [module for name, module in list(sys.modules.items()) if name.startswith("hdapbench.data.")]


def diverging(stage: Stage) -> Iterator[Attack]:
    """Losses that are no numbers: a failed row with its reason, or a line for the base model."""

    def attack(part: str) -> str | None:
        from hdapbench.store.sqlite import open_store

        stage.copied("tiny.yaml", f"{WORKSPACE}/cache")
        code = forked(lambda: run(*RUN, "--set", f"{part}.learning_rate=1e30", "--set", f"{part}.epochs=3"))
        if part == "base":
            return None if code == 2 else f"ended with {code}"
        with open_store(Path(WORKSPACE, "results.db")) as store:
            found = store.results(trial_ids=list(store.trial_ids()))
        reasons = [result.reason or "" for result in found if result.trial.method != "dense"]
        if code != 1 or len(reasons) != 2 or not all("training diverged: the loss is" in reason for reason in reasons):
            return f"ended with {code}; {reasons}"
        return None

    for part in ("base", "fine_tune"):
        yield Attack("losses that are no numbers", part, lambda part=part: attack(part))
