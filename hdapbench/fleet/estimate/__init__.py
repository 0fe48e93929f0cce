"""A fleet's average from few devices: fingerprints, clusters, estimators, planning and drift.

- ``probes``: which models tell devices apart, and timing them on every device
- ``clustered``: ClusteredFleet, what turns few measurements into an average
- ``clustering``: clusters of fingerprints, their weights, representatives and spares
- ``partition``, ``condense``: scikit-learn's clusterings behind one interface; many points made few
- ``estimators``: the average and its 95 % interval from measured devices
- ``choice``: the estimator of least error in ``study.json``
- ``planner``: how many devices to measure for a wanted error
- ``drift``: whether a fingerprint still holds
"""
