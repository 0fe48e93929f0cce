"""A fleet's average from few devices: fingerprints, clusters, estimators, planning and drift."""
