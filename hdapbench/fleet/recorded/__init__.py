"""Recorded fleets: latencies measured elsewhere, read from CSV or Parquet files."""
