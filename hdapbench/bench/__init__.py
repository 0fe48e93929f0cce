"""What a trial works with: the traced network, its images, training, quantisation and fleet.

- ``workbench``: what all trials on one fleet share, and its parts, made when they are first asked for
- ``network``: a dense model with everything that one trace tells about it
- ``compaction``: plans applied to the dense model
- ``training``: training, recalibration and scoring by the spec's recipe
- ``quantization``: calibration and fake quantisation
- ``measuring``: latencies of widths on the fleet, in sessions that repeat
- ``weights``: weights and files that methods hand over
- ``limit``: what a target allows
"""
