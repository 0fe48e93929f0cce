"""Quantisation: graph of operations, training with quantised weights and activations, deployment in whole numbers.

- ``graph``: networks as lists of quantisable operations
- ``training``: fake quantisation
- ``deploy``: integer networks
"""
