"""Quantised networks as whole numbers: lowering, execution, packing, export and what they cost.

- ``integer``: IntegerModel, plain values
- ``reorder``: channels sorted by bit-width
- ``lower``: FixedNetwork -> IntegerModel
- ``execute``: IntegerModel run in torch, the reference
- ``packed``: IntegerModel -> file and back
- ``onnx_export``: IntegerModel -> ONNX
- ``post_training``: onnxruntime's own quantiser, and its files as networks
- ``report``: size, operations, cycles and agreement of a deployed network
"""
