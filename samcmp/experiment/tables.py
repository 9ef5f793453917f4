"""Tables of benchmarks.toml as checked objects, and pydantic's complaints in the words of a file's writer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


SAID = {
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "finite_number": "expected a finite number",
    "float_type": "expected a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_parsing_size": "is larger than any number here",
    "int_type": "expected a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "list_type": "expected a list in [ ]",
    "model_type": "expected a table",
    "string_pattern_mismatch": "is not of the form that is expected here",
    "string_type": "expected text in quotes",
    "too_short": "must name at least {min_length}",
}


def said(complaint: Mapping[str, Any]) -> str:
    """Say what was expected and what is there instead."""
    return f"{SAID[complaint['type']].format(**complaint.get('ctx', {}))}, found {complaint['input']!r}"
