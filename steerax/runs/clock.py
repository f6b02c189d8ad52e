"""How long each part of a piece of work takes."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Clock:
    """Wall time by part: `with clock("fit"): …`, then `clock.seconds["fit"]`; a part entered twice is summed.

    **Arguments:** `tell(n, name)`, called when the part `name` starts after `n` others, for a progress bar.
    """

    def __init__(self, tell: Callable[[int, str], None] | None = None):
        self.seconds: dict[str, float] = {}
        self._tell = tell

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one part."""
        if self._tell is not None:
            self._tell(len(self.seconds), name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
