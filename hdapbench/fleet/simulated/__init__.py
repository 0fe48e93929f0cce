"""Simulated fleets: a board's engine model and profile, and devices that differ from it by a scenario."""
