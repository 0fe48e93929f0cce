"""A Ray cluster of this machine: a head that has no processor, and nodes that a test adds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TMPDIR": tempfile.gettempdir(),  # its sockets allow no long paths
    # A busy machine lets nodes and workers wait; one that is dead is seen by its closed connection.
    "RAY_health_check_initial_delay_ms": "30000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_gcs_server_request_timeout_seconds": "600",
}


@contextmanager
def ray_cluster(**head: Any) -> Iterator[Any]:
    """A head alone; `add_node` adds to it. What it starts has the environment as it is now."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False} | head)
        try:
            yield cluster
        finally:
            cluster.shutdown()
