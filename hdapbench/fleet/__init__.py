"""Fleets: devices of one SKU that differ, how they are clustered, and what their average is.

- ``base``: Fleet, one way to ask devices for latencies; Workloads, what they are asked for
- ``open``: spec of a fleet -> Fleet; the kinds that ship
- ``ids``, ``weights``: names of devices, and the share of the fleet that each stands for
- ``statistics``: percentiles and conditional value at risk over devices
- ``fingerprint``: Fingerprint, medians of probe models on every device, and its file
- ``remaining``: a fleet without the devices that were lost
- ``visits``, ``exports``: fleets whose devices run models: visited in rounds, each model exported once
- ``simulated/``, ``local/``, ``command/``, ``ray/``, ``recorded/``: one kind of fleet each
- ``estimate/``: clusters and averages, the same for all kinds
"""
