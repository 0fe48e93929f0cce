"""Fake quantisation: searching bit-widths and fine-tuning them."""
