"""Latency surrogates: measured plans in, predictions for any plan out.

- ``measured``: MeasuredPlans, what surrogates are fitted to
- ``base``: Surrogate, what each answers
- ``features``: kernels -> columns that latency is linear in
- ``regression``: ridge and non-negative least squares
- ``linear``, ``gaussian_process``, ``boosted``: the surrogates
- ``trees``: boosted trees as arrays
- ``fit``: surrogates by name
- ``fitted``: latency of any plan from measured ones, in one call
- ``design``: which plans to measure
- ``active``: measure, refit and search again
- ``report_card``: how good a surrogate is
- ``table``: latency when one group alone changes its width
"""
