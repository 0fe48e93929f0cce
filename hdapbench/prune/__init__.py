"""Channel groups of a model, and plans made physical."""
