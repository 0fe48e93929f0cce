"""Simulated fleets: a board's engine model and profile, and devices that differ from it by a scenario.

- ``fleet``: SimulatedFleet
- ``profile``: SkuProfile, what a board is; ``skus/`` holds those that ship
- ``engine``: widths -> compute and memory time of every kernel on the nominal board
- ``scenario``: Scenario -> DeviceStates, the multipliers of every device
- ``thermal``: the clock that a board sustains at its heat and supply
- ``exact``: SortedDevices, the mean over all devices without touching each
- ``calibration``: a profile fitted to measured latencies
"""
