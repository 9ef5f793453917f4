"""samcmp: which sharpness-aware optimizer is worth its cost on your molecular model, data and GPU."""

__version__ = "0.1.0"
