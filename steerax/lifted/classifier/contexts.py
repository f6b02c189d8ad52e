r"""Γ: the heads of the first layer, which give every token one fact about the others, its register $u_i$.

| context | the head at token $i$ | $u_i$ |
|---|---|---|
| `none` | – | – |
| `back:k` | score 2 at token $i-k$, sink 1 | its name, or "nothing" |
| `first`, `last` | score 2 at the first, last token, sink 1 | its name |
| `mirror` | score 2 at the token as far from the end as $i$ is from the start | its name |
| `pair` | two heads, `back:1` and `back:2` | both names |
| `repeat` | score $(2+j)[s_j=s_i,\,j<i]$, sink 1 | 1, or 0 for the sink |
| `balance:a,b` | causal mean of $[s=a]-[s=b]$ | its sign |

Only the equality of names is used. `codes [N n]` are those of `table`: names 0..V−1, V = nothing, V+1 = another name.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError

KINDS = ("none", "back", "first", "last", "repeat", "balance", "mirror", "pair")
BY_DEFAULT = (*KINDS[:6], "pair")
DISTANCES = 3  # of `back`, where none is named
MOST_NAMES = {"balance": 6, "pair": 4}  # by default


class Context(NamedTuple):
    """A head of the first layer: its kind, and k of `back` or a, b of `balance`."""

    kind: str
    a: int = 0
    b: int = 0

    @property
    def typed(self) -> bool:
        """Whether the register is the name of a token, which can be compared with another one."""
        return self.kind in ("back", "first", "last", "mirror")


def register_size(context: Context, V: int) -> int:
    """The number of codes of u, for V names."""
    return {"none": 1, "repeat": 2, "balance": 3, "pair": (V + 2) ** 2}.get(context.kind, V + 2)


def register(context: Context, codes: Int[np.ndarray, "N n"], V: int) -> Int[np.ndarray, "N n"]:
    """u of every token: a code of a token for a typed context, else a number below `register_size`."""
    N, n = codes.shape
    here = codes != V
    lengths = here.sum(1)
    u = np.full((N, n), V)
    match context.kind:
        case "none":
            return np.zeros((N, n), np.int64)
        case "back":
            u[:, context.a :] = codes[:, : n - context.a]
        case "first":
            u[:] = codes[:, :1]
        case "last":
            u[:] = np.take_along_axis(codes, np.maximum(lengths - 1, 0)[:, None], 1)
        case "mirror":
            opposite = lengths[:, None] - 1 - np.arange(n)[None, :]
            u = np.where(opposite >= 0, np.take_along_axis(codes, np.maximum(opposite, 0), 1), V)
        case "pair":
            one, two = (register(Context("back", k), codes, V) for k in (1, 2))
            return (V + 2) * one + two
        case "repeat":
            earlier = np.tril(np.ones((n, n), bool), -1)[None] & (codes[:, :, None] == codes[:, None, :])
            return (earlier.any(2) & here).astype(np.int64)
        case "balance":
            step = (codes == context.a).astype(np.int64) - (codes == context.b)
            return 1 + np.sign(np.cumsum(step, 1))
    return u


def contexts_of(asked: str | Sequence[str], n: int, V: int, by_column: bool) -> tuple[Context, ...]:
    """The contexts that are asked for, by their names in the table above: "auto" is all without `mirror`, and without
    `balance` and `pair` where there are many names.

    `none` is always among them. With names that belong to columns it is the only one.

    **Raises:** `ConfigurationError` for an unknown name.
    """
    if isinstance(asked, str):
        asked = BY_DEFAULT if asked == "auto" else KINDS if asked == "all" else [asked]
        if by_column:
            asked = ("none",)
        elif asked == BY_DEFAULT:
            asked = [name for name in asked if MOST_NAMES.get(name, V) >= V]
    found: dict[Context, None] = {Context("none"): None}
    for name in asked:
        kind, _, rest = str(name).partition(":")
        if kind not in KINDS or (rest and kind != "back") or (rest and not rest.isdecimal()) or rest == "0":
            raise ConfigurationError(
                f'The context {name!r} is unknown; choose "auto", "all" or among {", ".join(KINDS)}, back:k.'
            )
        if by_column and kind != "none":
            raise ConfigurationError(
                f'The context {name!r} compares columns, which have no names in common; pass vocabulary="shared".'
            )
        if kind == "back":
            distances = [int(rest)] if rest else range(1, DISTANCES + 1)
            found.update((Context("back", k), None) for k in distances if k < n)
        elif kind == "balance":
            found.update((Context("balance", a, b), None) for a in range(V) for b in range(a + 1, V))
        elif kind == "none" or n > 1:
            found[Context(kind)] = None
    return tuple(found)
