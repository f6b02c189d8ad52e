"""Progress of long work: a bar on a terminal, silence everywhere else."""

import re
import sys
from types import TracebackType

# all that can move a cursor, set a title or turn text around, except tab and line end
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text in which what would control a terminal is written out."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Progress:
    """A context manager with `update(step, text)`; draws only if standard error is a terminal and `shown` is true."""

    def __init__(self, title: str, total: int, start: int = 0, shown: bool = True):
        self._bar = self._task = None
        self._title, self._total, self._start = visible(title), total, start
        self._shown = shown and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._start, text="")
        return self

    def update(self, step: int, text: str = "") -> None:
        """Show that `step` steps are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, text=text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._bar is not None:
            self._bar.stop()
