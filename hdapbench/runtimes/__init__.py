"""Latency that is really measured: model files, worker processes that run them, and the protocol of measuring.

What a worker process imports stays free of torch unless its runtime is torch.
"""
