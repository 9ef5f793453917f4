"""The border to the terminal: what the program says of its own accord may have colours, text from elsewhere may not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from samcmp.printable import printable


class SafeConsole(Console):
    """A console on which text is text: escape sequences in it are spelled out."""

    def render(self, *args: Any, **named: Any) -> Iterable[Segment]:
        for text, style, control in super().render(*args, **named):
            yield Segment(text if control else printable(text), style, control)
