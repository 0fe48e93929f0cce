"""A board behind a network: ``serve`` in its namespace keeps files and runs them; ``push`` and ``run`` talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import socket
import sys
from pathlib import Path

PORT = 7017


def serve(address: str, folder: Path, share: float, kind: str) -> None:
    """Answer until killed, at a share of a CPU; a board that lies says NaN, one that vanishes is gone after a visit."""
    with socket.create_server((address, PORT)) as server:
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as stream:
                request = json.loads(stream.readline() or b"null")
                if request is None:
                    continue  # somebody asked whether the board listens
                if "size" in request:
                    (folder / request["name"]).write_bytes(stream.read(request["size"]))
                    answer = "kept\n"
                else:
                    answer = timed(request["words"], folder, share)
                if kind == "lying" and "words" in request:
                    answer = json.dumps({"samples_ms": [[float("nan")]]})
                stream.write(answer.encode())
            if kind == "vanishing" and "words" in request:
                return


def timed(words: list[str], folder: Path, share: float) -> str:
    """What the runner says, at a share of a CPU and before all other work of this machine: a board is no part of it.

    A child of this process runs it, which has imported what takes long.
    """
    output = folder / ".said"
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, -15)
            limit = limit_cpu(os.getpid(), share=share, threads=1)
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.argv = words
            with contextlib.suppress(SystemExit):
                runpy.run_path(words[0], run_name="__main__")
            sys.stdout.flush()
            if limit is not None:
                limit.release()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return output.read_text()


def asked(address: str, request: dict[str, object], content: bytes = b"") -> str:
    with socket.create_connection((address, PORT)) as connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps(request).encode() + b"\n" + content)
        stream.flush()
        connection.shutdown(socket.SHUT_WR)
        return stream.read().decode()


if __name__ == "__main__":
    what, address, *words = sys.argv[1:]
    if what == "serve":
        import onnxruntime  # noqa: F401 - for the children

        from hdapbench.fleet.local.cpu_share import limit_cpu

        serve(address, Path(words[0]), float(words[1]), words[2])
    elif what == "push":
        sent = Path(words[0]).read_bytes()
        asked(address, {"name": Path(words[1]).name, "size": len(sent)}, sent)
    else:
        print(asked(address, {"words": [Path(word).name if "/" in word else word for word in words]}))
