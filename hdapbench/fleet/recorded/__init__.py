"""Recorded fleets: latencies measured elsewhere, read from CSV or Parquet files.

- ``fleet``: RecordedFleet
- ``reading``: columns, units and impossible values, each counted and named
- ``lacking``: plans that a recording lacks, or holds of another network
- ``matrix``: LatencyMatrix, the growing file that ``hdapbench fleet measure`` writes
"""
