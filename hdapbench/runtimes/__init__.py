"""Latency that is really measured: model files, worker processes that run them, and the protocol of measuring.

What a worker process imports stays free of torch unless its runtime is torch.

- ``base``: Runtime, which files a runtime loads and what its worker process imports
- ``model_file``, ``onnx_file``, ``program_file``: models -> files, checked against the model
- ``worker``: Worker, a process that loads files and times them; ``process``: its other end
- ``conversation``: a process of our own that is asked in lines of JSON, with a time limit on each answer
- ``on_onnxruntime``, ``on_torch``: what that process runs
- ``inputs``: what models are timed on
- ``protocol``: rounds in which models take turns; ``session``: all samples, and what they say
- ``interval``: medians with intervals
- ``load``, ``host``: what else keeps the processors busy, and what host this is
"""
