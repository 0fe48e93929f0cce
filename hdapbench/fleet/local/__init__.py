"""Local fleets: worker processes on this host under different conditions, timed for real.

- ``fleet``: LocalFleet, devices timed one at a time in rounds of random order
- ``device``: LocalDevice, a worker process under its conditions
- ``cpu_share``: limits on the CPU time of a process
- ``hog``: background load while a device is timed
- ``mix``: devices fitted to a host, for ``hdapbench fleet make --local``
"""
