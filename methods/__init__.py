"""The pruning methods that ship with hdapbench: plug-ins like anybody else's, with no privileges."""
