"""IntegerModel -> C99: a header and a source without floats, heap or library, bit for bit what ``execute`` computes.

- ``shapes``: shapes and windows
- ``values``: ranges, C types and places of all values; what the generated code cannot do is refused here, by name
- ``constants``: weights at 2, 4 and 8 bits, biases, multipliers and shifts as C arrays, and their bytes
- ``kernels``, ``templates``: the C functions that generated code consists of
- ``calls``: one call per operation
- ``source``: header and source as texts
- ``size``: flash and RAM of generated code
"""

from hdapbench.quant.deploy.c99.size import Footprint, footprint
from hdapbench.quant.deploy.c99.source import About, CCode, c_code, identifier

__all__ = ["About", "CCode", "Footprint", "c_code", "footprint", "identifier"]
