"""Worker processes: the numbers are those of one process, and what happens to one of them is its own trial's affair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.executor import slot
from hdapbench.trial import Trial

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")

AT_ONCE = ("--executor", "process", "--workers", "2")

INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from hdapbench.cli.main import main; raise SystemExit(main())"
)
"""The command, also where tests run in the background, which lets processes ignore interrupts."""

ODD = """\
import os, signal, sys, time

import torch

from hdapbench.method import Method


class Odd:
    def compress(self, problem):
        type(self).do()
        return problem.plan_by_scores(problem.importance("l2"))


def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    while True:
        time.sleep(1)


def fork():
    if os.fork() == 0:
        time.sleep(1000)


def spoil():
    torch.relu = None
    torch.manual_seed(99)
    torch.set_grad_enabled(False)
    os.environ["OMP_NUM_THREADS"] = "7"
    os.chdir("/")
"""


def write_odd(**does: str) -> None:
    """A file of methods: name -> what it does."""
    classes = [
        f'class M{n}(Odd, Method):\n    name, do = "{name}", staticmethod({do})'
        for n, (name, do) in enumerate(does.items())
    ]
    Path("odd.py").write_text("\n\n\n".join([ODD, *classes]) + "\n")


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Results by method, at one target."""
    capsys.readouterr()
    main(["run", "tiny.yaml", "--json", "--target", "0.5x", *arguments])
    return {row["trial"]["method"]: row for row in json.loads(capsys.readouterr().out)}


def processes_of(folder: Path) -> list[str]:
    """Processes whose environment names a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def left_of(folder: Path) -> list[str]:
    """Processes of a folder that do not end; those that were killed take their time on a busy machine."""
    last = time.monotonic() + 300
    while (found := processes_of(folder)) and time.monotonic() < last:
        time.sleep(0.05)
    return found


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def test_the_board_is_the_same_text_whoever_carries_the_trials_out_and_however_often_it_was_interrupted(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "tiny.yaml", "--executor", "inline", "--workspace", "one", "--output", "one.md"])
    main(["run", "tiny.yaml", *AT_ONCE, "--workspace", "two", "--output", "two.md"])
    told = capsys.readouterr().err
    for limit in ("2", "9"):
        main(["run", "tiny.yaml", *AT_ONCE, "--workspace", "parts", "--limit", limit, "--output", "parts.md"])

    assert Path("two.md").read_text() == Path("one.md").read_text() == Path("parts.md").read_text()
    assert "2 worker processes of 1 thread" in told
    assert told.count("preparing the base model") == 2, "once by each of two runs"
    assert len(list(Path("two/cache/base").iterdir())) == 1
    assert unfinished(Path("two")) == []


def test_whatever_a_method_does_to_its_process_is_its_own_row(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_odd(
        leaves="lambda: os._exit(3)",
        crashes="lambda: os.kill(os.getpid(), signal.SIGSEGV)",
        eats="lambda: os.kill(os.getpid(), signal.SIGKILL)",
        forks="fork",
        prints="lambda: print('x' * 79 + chr(10), file=sys.stderr, end='', flush=True) or os.write(1, b'y' * 5_000_000)",
        spoils="spoil",
    )
    alone = rows(capsys, "--executor", "inline", "--only", "uniform", "--only", "random", "--workspace", "alone")

    found = rows(capsys, *AT_ONCE, "--method", "./odd.py", "--workspace", "beside")

    told = {name: row["reason"] for name, row in found.items() if row["status"] != "complete"}
    assert told == {
        "leaves": "the process of this trial left with exit code 3",
        "crashes": "the process of this trial was ended by SIGSEGV",
        "eats": "the process of this trial was ended by SIGKILL, for want of memory perhaps",
    }
    for name in ("dense", "uniform", "random"):
        assert found[name]["metrics"] == alone[name]["metrics"]
    for name in ("forks", "prints", "spoils"):
        assert found[name]["metrics"] == found["forks"]["metrics"]
    assert "torch.relu" in found["spoils"]["notes"]["put_back"]
    assert left_of(spec.parent / "beside") == []
    assert unfinished(spec.parent / "beside") == []
    assert not list(Path("beside/running").iterdir())


def test_a_method_that_no_alarm_stops_is_ended_with_its_process(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_odd(hangs="hang")
    monkeypatch.setattr(slot, "OVERDUE_SECONDS", 0.0)

    found = rows(capsys, *AT_ONCE, "--method", "./odd.py", "--only", "hangs", "--set", "budget.wall_seconds=1")

    assert found["hangs"]["status"] == "timeout"
    assert "the time limit of 1 s is up" in found["hangs"]["reason"]
    assert found["dense"]["status"] == "complete"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_interrupted_or_killed_leaves_no_process_and_what_had_ended(
    spec: Path, number: signal.Signals, code: int
) -> None:
    write_odd(hangs="lambda: (fork(), hang())")
    command = [
        sys.executable,
        "-c",
        INTERRUPTIBLE,
        "run",
        "tiny.yaml",
        *AT_ONCE,
        "--method",
        "./odd.py",
        "--only",
        "hangs",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "accuracy" in line:  # the dense model has ended, the method hangs
                break
        os.kill(run.pid, number)
        told = run.stderr.read()

    assert run.returncode == code
    assert left_of(spec.parent) == []
    if number == signal.SIGINT:
        assert "interrupted: 1 of 3 trials are stored; go on with: hdapbench run tiny.yaml" in told
        assert "--executor process --workers 2" in told
        assert unfinished(spec.parent) == [spec.parent / ".hdapbench"]


@pytest.mark.parametrize("executor", [("inline",), ("process", "--workers", "2")], ids=["inline", "process"])
def test_what_failed_is_tried_again_when_asked_and_any_trial_anew(
    spec: Path, executor: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    write_odd(fails="lambda: sys.exit('too early') if not os.path.exists('ready') else None")
    options = ("--executor", *executor, "--method", "./odd.py", "--only", "uniform", "--only", "fails")
    first = rows(capsys, *options)
    Path("ready").touch()

    kept, again = rows(capsys, *options), rows(capsys, *options, "--retry-failed")
    trial = Trial.model_validate(again["uniform"]["trial"]).id
    main(["run", "tiny.yaml", "--target", "0.5x", *options, "--rerun", trial])
    told, anew = capsys.readouterr().err, rows(capsys, *options)

    assert [found["fails"]["status"] for found in (first, kept, again, anew)] == ["failed", "failed", *["complete"] * 2]
    assert first["uniform"] == kept["uniform"] == again["uniform"]
    assert told.count("accuracy") == 1
    assert f"[{trial}]" in told
    assert anew["uniform"]["metrics"] == first["uniform"]["metrics"]


def test_two_runs_at_once_do_each_trial_once_and_show_the_same_board(spec: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "hdapbench", "run", "tiny.yaml", "--executor", "inline", "--output", f"{name}.md"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    told = [run.communicate()[1] for run in runs]

    assert [run.returncode for run in runs] == [0, 0]
    begun = [line for text in told for line in text.splitlines() if line.startswith("[")]
    assert len({line.rpartition("[")[2] for line in begun}) == len(begun) == 5
    assert Path("one.md").read_text() == Path("other.md").read_text()
