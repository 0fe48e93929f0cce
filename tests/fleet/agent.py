"""A board behind a network: ``serve`` in its namespace keeps files and runs them; ``push`` and ``run`` talk to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

PORT = 7017


def serve(address: str, folder: Path) -> None:
    with socket.create_server((address, PORT)) as server:
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as stream:
                request = json.loads(stream.readline())
                if "size" in request:
                    (folder / request["name"]).write_bytes(stream.read(request["size"]))
                    answer = "kept\n"
                else:
                    words = [sys.executable, *request["words"]]
                    answer = subprocess.run(words, cwd=folder, capture_output=True, text=True).stdout
                stream.write(answer.encode())


def asked(address: str, request: dict[str, object], content: bytes = b"") -> str:
    with socket.create_connection((address, PORT)) as connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps(request).encode() + b"\n" + content)
        stream.flush()
        connection.shutdown(socket.SHUT_WR)
        return stream.read().decode()


if __name__ == "__main__":
    what, address, *words = sys.argv[1:]
    if what == "serve":
        serve(address, Path(words[0]))
    elif what == "push":
        sent = Path(words[0]).read_bytes()
        asked(address, {"name": Path(words[1]).name, "size": len(sent)}, sent)
    else:
        print(asked(address, {"words": [Path(word).name if "/" in word else word for word in words]}))
