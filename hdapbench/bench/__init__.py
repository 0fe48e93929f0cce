"""What a trial works with: the traced network, its data, fleet, training and quantisation."""
