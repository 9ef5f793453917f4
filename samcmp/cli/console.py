"""The border to the terminal: what the program says of its own accord may have colours, text from elsewhere may not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import IO, Any

from rich.console import Console
from rich.control import Control
from rich.segment import Segment

from samcmp.printable import printable


class SafeConsole(Console):
    """A console on which text is text: escape sequences in it are spelled out. What goes to a file is shown in no
    notebook."""

    def __init__(self, *, file: IO[str] | None = None, force_jupyter: bool | None = None, **named: Any) -> None:
        super().__init__(file=file, force_jupyter=force_jupyter if file is None else False, **named)

    def render(self, *args: Any, **named: Any) -> Iterable[Segment]:
        for text, style, control in super().render(*args, **named):
            yield Segment(text if control else printable(text), style, control)


class Voice(SafeConsole):
    """What says things on standard error: all of it goes to ``log``, too, also where it is silent."""

    def __init__(self, log: Callable[[str], None], **named: Any) -> None:
        super().__init__(**named)
        self._logged = log

    def print(self, *objects: Any, **named: Any) -> None:
        super().print(*objects, **named)
        if not any(isinstance(one, Control) for one in objects):  # a live view drawing itself
            text = io.StringIO()
            SafeConsole(file=text, width=1000, force_terminal=False, highlight=False).print(*objects, **named)
            self._logged(text.getvalue())
