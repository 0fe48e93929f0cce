"""hdapbench: which compressed model is fastest on average over a fleet of edge devices."""

__version__ = "0.1.0"
