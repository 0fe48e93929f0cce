from hdapbench.api import Board as Board
from hdapbench.api import board as board
from hdapbench.api import results as results
from hdapbench.api import run as run

__version__: str
OFFERED: tuple[str, ...]
