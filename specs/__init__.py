"""The specs that ship; installed as hdapbench_specs, so that `hdapbench run quickstart` works outside a clone."""
