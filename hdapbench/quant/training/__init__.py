"""Fake quantisation: searching bit-widths, and fine-tuning with fixed ones.

- ``choices``: names of what can be chosen, without torch
- ``ranges``: steps of weight grids
- ``quantizers``: fake quantisation with straight-through gradients
- ``calibrate``: first clips of activation quantisers
- ``network``: QuantNetwork, what fake-quantised networks share
- ``selection``: SelectionLogits, which bit-width each channel takes
- ``searchable``: SearchNetwork, bit-widths open
- ``discretize``: soft choices -> one bit-width per channel under a limit
- ``assign``: bits of channel groups -> kept channels and bits per layer
- ``fixed``: FixedNetwork, bit-widths decided
"""
