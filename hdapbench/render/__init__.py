"""Leaderboard -> markdown or terminal: pure, deterministic."""
