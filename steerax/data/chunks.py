"""Work through many rows a few at a time, so that memory does not grow with their number."""

from collections.abc import Iterator


def chunks(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `range(n)`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
