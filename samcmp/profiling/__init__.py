"""Clocks, interleaved rounds, memory, energy and the sessions that measure optimizers side by side."""

WARNING = "profile: "  # begins each warning of a session among the notes of a Record
BUSY_BEFORE, BUSY_WHILE = "the machine was busy before", "other processes took the rest"  # in such warnings
