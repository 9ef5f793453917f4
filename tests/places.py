"""Where the tests find what is not part of the project: real dataset files and independent numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SAMCMP_SHARED", ROOT.parent / "shared"))
ORACLES = SHARED / "oracles"
MIRROR = SHARED / "mirror"

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"the oracles are not at {ORACLES}")
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the dataset files are not at {MIRROR}")
