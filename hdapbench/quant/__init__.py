"""Fake quantisers, mixed-precision networks, integer execution and export."""
