"""Clocks, interleaved rounds, memory and the GPU's own sensors: this room knows devices, not models."""
