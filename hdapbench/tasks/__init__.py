"""Tasks: how a model is trained, evaluated and scored."""
