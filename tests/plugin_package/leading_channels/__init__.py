"""Methods of another package."""
