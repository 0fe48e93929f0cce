"""Which channels lie along every dimension of every tensor of a forward pass, and which of them are one.

- ``follow``: labels followed through a forward pass
- ``labels``: the labels of dimensions, and what is noted of them
- ``rules``: how each operation passes labels on
- ``along``: rules of operations along a dimension
- ``contractions``: rules of layers and products, which sum over some dimensions
- ``reshape``: how a reshape moves dimensions
- ``layers``: along which dimensions of their tensors known layers hold channels
"""
