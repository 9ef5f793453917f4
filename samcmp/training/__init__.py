"""Training: the loop, losses, metrics, learning rates and checkpoints."""
