"""Latency surrogates: measured plans in, predictions for any plan out."""
