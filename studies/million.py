"""A fleet of a million simulated boards, end to end: what hdap takes in time and memory on ResNet50.

    python -m studies.million

Runs specs/resnet50-million.yaml in a folder of its own and prints seconds per trial (they begin after tracing; the first
holds the fingerprint of all devices), processor seconds of the whole process, and its peak resident memory. The aim is 60 s
after tracing on two quiet cores and less than 3 GiB; exit code 1 says that memory was exceeded or a trial did not complete.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from hdapbench.store.sqlite import open_store
from hdapbench.trial import Status

SPEC = Path(__file__).parents[1] / "specs" / "resnet50-million.yaml"
MOST_GIB = 3.0
RUN = "import sys; from hdapbench.cli.main import main; sys.exit(main(sys.argv[1:]))"


def main() -> int:
    """Run the spec and print what it took; 0 when it completed within the memory."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        command = [sys.executable, "-c", RUN, "run", str(SPEC), "--workspace", str(workspace)]
        subprocess.run(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "2"}, check=True)
        with open_store(workspace / "results.db") as store:
            results = store.results(trial_ids=store.benchmark("resnet50-million").trial_ids)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for result in results:
        print(f"{result.trial.method}: {result.status.value}, {result.seconds:.1f} s, {len(result.devices)} devices")
    gib = used.ru_maxrss / 2**20
    print(f"processor {used.ru_utime + used.ru_stime:.1f} s in all, peak memory {gib:.2f} GiB")
    return 0 if gib < MOST_GIB and all(result.status == Status.COMPLETE for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
