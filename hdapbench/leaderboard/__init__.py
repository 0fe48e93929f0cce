"""Stored results to ranked boards, with all statistics."""
