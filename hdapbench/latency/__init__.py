"""Predicting latency: fused kernels, an engine model of a board, and surrogates fitted to measurements."""
