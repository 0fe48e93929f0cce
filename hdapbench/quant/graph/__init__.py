"""Networks as lists of quantisable operations."""
