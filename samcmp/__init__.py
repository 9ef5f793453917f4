"""samcmp: which sharpness-aware optimizer is worth its cost on your molecular model, data and GPU.

In Python: ``compare``, ``train``, ``profile``, ``inspect``, ``predict``, and the catalogues ``datasets``, ``models``
and ``optimizers``; see :mod:`samcmp.api`. Each is imported when it is first used; their types are in the stub.
"""

__version__ = "0.1.0"

__all__ = ["SamcmpError", "compare", "datasets", "inspect", "models", "optimizers", "predict", "profile", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'samcmp' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("samcmp.errors" if name == "SamcmpError" else "samcmp.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
