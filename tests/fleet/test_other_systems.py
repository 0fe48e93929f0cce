"""What works where Python lacks what Linux has: as on macOS and Windows, which no test here runs on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import os, signal, sys
for module, names in (
    (os, ("sched_setaffinity", "sched_getaffinity", "setpriority", "getpriority", "nice", "posix_fallocate", "sysconf",
          "getloadavg", "killpg", "fork", "geteuid", "pread", "waitid", "statvfs")),
    (signal, ("SIGALRM", "SIGVTALRM", "SIGSTOP", "SIGCONT", "SIGKILL", "setitimer", "getitimer", "pthread_sigmask")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.modules["resource"] = sys.modules["fcntl"] = None
from hdapbench.cli.main import main
codes = [main(["check", "tiny.yaml"]), main(["run", "tiny.yaml", "--output", "board.md"]), main(["board", "tiny"])]
sys.exit(f"exit codes {codes}" if any(codes) else 0)
"""


def test_a_spec_is_checked_run_and_shown_without_what_linux_alone_has(tiny_spec: Path) -> None:
    text = tiny_spec.read_text().replace("resnet20", "resnet6").replace("[uniform, random]", "[uniform]")
    tiny_spec.write_text(text.replace("targets: [{flops: 0.5x}, {flops: 0.3x}]", "targets: [{flops: 0.5x}]"))

    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tiny_spec.parent, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "| uniform " in (tiny_spec.parent / "board.md").read_text()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_a_hog_asks_no_other_system_to_end_it_with_its_parent(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hdapbench.fleet.local import hog

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("no other system has prctl"))
    monkeypatch.setattr(hog, "CACHE_BYTES", 1 << 20)

    hog.main("cache", parent=-1)  # whose parent is gone: it ends at once
