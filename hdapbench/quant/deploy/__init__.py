"""Integer networks: lowering, execution, packing and export."""
