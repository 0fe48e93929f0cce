"""What a notebook uses: ``hdapbench.run``, ``board`` and ``results``, and the `Board` that they return. No torch.

- running: a spec's trials, with methods by name, file, class or instance
- boards: boards and results of a workspace, as frames, charts and text
"""

from hdapbench.api.boards import Board, board, results
from hdapbench.api.running import run

__all__ = ["Board", "board", "results", "run"]
