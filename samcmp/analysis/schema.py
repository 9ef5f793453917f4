"""The JSON Schema of an exported comparison, made from the dataclasses that hold it.

The published copy is ``docs/schema/comparison-2.json``; a test keeps the two equal. The number is
:data:`samcmp.analysis.comparison.SCHEMA`: within it fields are only added.
"""

from __future__ import annotations

import json
from typing import Any

from samcmp.analysis.comparison import SCHEMA, Comparison

ID = f"urn:samcmp:schema:comparison-{SCHEMA}"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of :func:`samcmp.analysis.comparison.to_json_text`'s output."""
    from pydantic import TypeAdapter

    made = TypeAdapter(Comparison).json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        **made,
        "title": f"samcmp comparison, version {SCHEMA}",
    }


def text() -> str:
    """Return the schema as JSON text, ending in a line break."""
    return json.dumps(schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
