"""Networks as lists of quantisable operations, before anything is quantised.

- ``fold``, ``unfold``: batch norms into the layers before them, and back
- ``graph``: QuantGraph, the list of operations
- ``recognise``: what one node of a torch.fx trace means
- ``arrange``: channels that are only moved
- ``insert_quantizers``: where activations are quantised
- ``capture``: model -> QuantGraph
- ``folded``: FoldedModel, a folded network with its graph, groups and layers
- ``walk``: run a QuantGraph on tensors
"""
