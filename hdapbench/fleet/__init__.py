"""Fleets: devices of one SKU that differ, how they are clustered, and what their average is."""
