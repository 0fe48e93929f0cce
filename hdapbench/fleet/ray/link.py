"""Link: the one process of a fleet that talks to a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hdapbench
from hdapbench.errors import FleetError, MissingExtraError
from hdapbench.fleet.command.calls import CallError, Said
from hdapbench.fleet.ray.driver import GRACE_SECONDS, TURNS
from hdapbench.runtimes.conversation import Conversation, ConversationLostError

JOIN_SECONDS = 180.0
KNOCK_SECONDS = 5.0


class Link:
    """A process that joined a cluster when it was first asked.

    Parameters
    ----------
    address
        HOST:PORT of the head, or ray://HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._talk: Conversation | None = None

    def resources(self) -> tuple[str, ...]:
        """Names of the resources of the cluster, which is joined anew.

        Raises
        ------
        FleetError
            When the cluster cannot be joined.
        MissingExtraError
            When Ray is not installed.
        """
        self.close()
        if find_spec("ray") is None:
            raise MissingExtraError("ray", "ray", "a fleet of kind 'ray'")
        host, _, port = self.address.removeprefix("ray://").partition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS):
                pass
        except (OSError, OverflowError) as error:
            raise FleetError(
                f"no Ray cluster answers at {self.address} ({error}); begin one with: ray start --head --port {port}, "
                "and on each board: ray start --address HOST:PORT --num-cpus 0 --resources '{\"board:NAME\": 1}'"
            ) from None
        package = str(Path(hdapbench.__file__).parents[1])
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_JOB_")}
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [package, own.get("PYTHONPATH", "")]))
        self._talk = Conversation("hdapbench.fleet.ray.driver", own | {"RAY_USAGE_STATS_ENABLED": "0"})
        return tuple(self._ask({"do": "join", "address": self.address}, JOIN_SECONDS)["resources"])

    def visit(self, resource: str, words: Sequence[str], files: Mapping[str, Path], timeout: float) -> Said:
        """What a command said on a board.

        Raises
        ------
        CallError
            When it failed, took longer than ``timeout`` seconds, or the board is not there.
        FleetError
            When the cluster is not there any more.
        """
        if self._talk is None:
            self.resources()
        named = {name: str(path) for name, path in files.items()}
        request = {"do": "visit", "resource": resource, "words": [*words], "files": named, "timeout": timeout}
        answer = self._ask(request, (TURNS + 2) * (timeout + GRACE_SECONDS))
        if "error" in answer:
            raise CallError(answer["error"])
        return Said(answer["output"], answer["seconds"])

    def close(self) -> None:
        """Leave the cluster; the next question joins it again."""
        if self._talk is not None:
            self._talk.close()
        self._talk = None

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        assert self._talk is not None  # noqa: S101 - both callers made it
        try:
            answer = self._talk.ask(request, timeout=timeout)
        except ConversationLostError as error:
            last = f": {error.last_lines[-1][:300]}" if error.last_lines else ""
            with contextlib.suppress(OSError):
                self.close()
            raise FleetError(
                f"the Ray cluster at {self.address} was lost; the process that joined it {error.what}{last}"
            ) from None
        if "error" in answer and request["do"] == "join":
            self.close()
            raise FleetError(f"the Ray cluster at {self.address} cannot be joined: {answer['error']}")
        return answer
