"""Training: the loop, its schedule and its checkpoints."""
