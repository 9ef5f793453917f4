"""Where the tests find what is not part of the project: real dataset files and independent numbers."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SAMCMP_SHARED", ROOT.parent / "shared"))
ORACLES = SHARED / "oracles"
MIRROR = SHARED / "mirror"

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"the oracles are not at {ORACLES}")
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the dataset files are not at {MIRROR}")


def script(path: Path) -> ModuleType:
    """Import a script of the project that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
