"""Clocks, interleaved rounds, memory and the GPU's own sensors: this room knows devices, not models."""

WARNING = "profile: "  # begins each warning of a session among the notes of a Record
