"""Exact costs of a plan in closed form over its widths, from one recorded forward pass.

- ``records``: LayerRecord, an executed operation, and ChannelCount, channels as an affine function of widths
- ``channel_axis``: the dimension in which channels lie, followed through operations that cost nothing
- ``tracker``: which tensors come from the image or from a parameter, and how many channels they have
- ``layers``: layers with weights: their channels as functions of the widths, and their records
- ``products``: rules for what multiplies, by weights or by activations
- ``notes``: rules for what does not
- ``recorder``: one forward pass, watched operation by operation
- ``trace``: model -> layer records
- ``terms``: records -> costs per pair of channel counts and per channel
- ``model``: CostModel, FLOPs, parameters and bytes of any plan
- ``target``: widths that meet a FLOPs target
- ``ranking``: scores of channels -> kept channels under a FLOPs target
- ``kernels``: KernelModel, the fused kernels that an inference engine would run
- ``kernel_file``: kernels to plain values and back
- ``tiling``: what runtimes pad channels to
- ``bits``: BitLayers and ChannelBitCounts, what costs of bit-widths are computed from; size and bit operations
- ``mpic``, ``ne16``: cycles on two integer processors
- ``limits``: which of them a target limits, by name; imports no torch
- ``hardware``: costs of bit-widths by name
"""
