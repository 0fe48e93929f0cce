"""Channel groups of a model, importance of channels, and plans made physical.

- ``trace``: model -> channel groups
- ``candidates``: labels of a forward pass -> candidate groups
- ``verify``: which candidate groups survive losing channels
- ``surgery``: plan -> smaller model, and the masked model that it must agree with
- ``expand``: weights of a smaller model back in the dense shapes
- ``importance``: score of every channel, by criterion
- ``fisher``: the criterion ``fisher``
- ``norms``: batch norms of channel groups
- ``reconstruct``: weights that make up for removed channels
"""
