"""Local fleets: worker processes on this host under different conditions, timed for real."""
