r"""Θ_γ: the tests of the read-out token, each one head and a binary look-up.

A key is selected by a predicate ψ of its name $s$ and its register $u$: `token` $s=a$; `both` $s=a\wedge u=b$; `match` $s=u$; `flag`
$u=b$; `any`. With $n$ places, of which the empty ones have no value:

| kind | head | bit |
|---|---|---|
| `place` | score 2 at position p, value [ψ] | ψ holds there |
| `from end` | score 2 at the p-th token from the end, value [ψ] | ψ holds there |
| `count`, `exactly`, `odd` | mean of n·[ψ] | ≥ k, = k, odd |
| `compare`, `equal` | mean of n·([s=a] − [s=b]) | ≥ k, = 0 |
| `first is`, `last is` | hard attention to the first, last token with ψ, else the sink | its name is b |
| `first sees`, `last sees` | the same | its u is b |
| `first at`, `last at` | the same | its position is ≥ p |

`columns` evaluates a test on data; `network` builds the same head from integer tables; the tests compare the two.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from ..._errors import ConfigurationError
from .contexts import Context, register

FAMILIES = ("place", "count", "compare", "selection", "odd")
BY_DEFAULT = FAMILIES[:4]
LARGEST_BY_DEFAULT = 20_000  # tests of a context that "auto" takes

Predicate = tuple[str, int, int]


class Head(NamedTuple):
    """A test: the kind of its head, its predicate (kind, a, b), and the number or name it asks for."""

    kind: str
    predicate: Predicate
    value: int


class Shape(NamedTuple):
    """What the tests of a context depend on: places, names, and whether rows may be shorter or names belong to columns."""

    n: int
    V: int
    ragged: bool
    by_column: bool
    families: tuple[str, ...]
    homes: tuple[int, ...] = ()  # the column of every name, if names belong to columns


def families_of(asked: str | Sequence[str], by_column: bool) -> tuple[str, ...]:
    """The families that are asked for: "auto" is all but `odd`, and `place` alone where names belong to columns."""
    if isinstance(asked, str):
        if by_column and asked == "auto":
            return ("place",)
        asked = BY_DEFAULT if asked == "auto" else FAMILIES if asked == "all" else [asked]
    wrong = [name for name in asked if name not in FAMILIES]
    if wrong or not len(asked):
        raise ConfigurationError(
            f'tests={wrong or list(asked)}: choose "auto", "all" or some of {", ".join(FAMILIES)}.'
        )
    if by_column and tuple(asked) != ("place",):
        raise ConfigurationError(
            'Names that belong to columns can only be looked at by place; pass tests="place" or vocabulary="shared".'
        )
    return tuple(name for name in FAMILIES if name in asked)


def syntax(context: Context, shape: Shape) -> Iterator[tuple[str, Predicate, range]]:
    """The tests that a context adds to those without context, as (kind, predicate, values). `none` gives the latter."""
    n, V, plain = shape.n, shape.V, context.kind == "none"
    if plain and shape.by_column:
        if "place" in shape.families:
            yield from (("place", ("token", a, 0), range(shape.homes[a], shape.homes[a] + 1)) for a in range(V))
        return
    for predicate in _predicates(context, shape):
        if predicate[0] != "token" or plain:
            yield from _of_predicate(predicate, shape)
        if "selection" in shape.families:
            for side in ("first", "last"):
                if plain:
                    if predicate[0] == "token":
                        yield f"{side} at", predicate, range(1, n)
                elif predicate[0] in ("match", "flag"):
                    yield f"{side} is", predicate, range(V)
                elif predicate[0] == "token":
                    for values in _registers(context, V):
                        yield f"{side} sees", predicate, values
    if plain and "compare" in shape.families:
        for a in range(V):
            for b in range(a + 1, V):
                yield "compare", ("less", a, b), range(1 - n, n)
                yield "equal", ("less", a, b), range(1)


def _of_predicate(predicate: Predicate, shape: Shape) -> Iterator[tuple[str, Predicate, range]]:
    n, families = shape.n, shape.families
    if "place" in families and predicate[0] != "any":
        yield "place", predicate, range(n)
        if shape.ragged:
            yield "from end", predicate, range(n)
    if "count" in families:
        yield "count", predicate, range(1, n + 1)
        yield "exactly", predicate, range(1, n)
    if "odd" in families:
        yield "odd", predicate, range(1)


def _registers(context: Context, V: int) -> list[range]:
    """The values of u that tests ask for; that of a name never seen is not among them."""
    if context.kind == "pair":
        return [range(one * (V + 2), one * (V + 2) + V + 1) for one in range(V + 1)]
    return [range({"repeat": 2, "balance": 3}.get(context.kind, V + 1))]


def _predicates(context: Context, shape: Shape) -> Iterator[Predicate]:
    V = shape.V
    yield from (("token", a, 0) for a in range(V))
    if context.kind == "none":
        if shape.ragged:
            yield "any", 0, 0
        return
    values = [u for part in _registers(context, V) for u in part]
    if context.typed:
        yield "match", 0, 0
    else:
        yield from (("flag", b, 0) for b in values)
    yield from (("both", a, b) for a in range(V) for b in values)


def number_of_tests(context: Context, shape: Shape) -> int:
    """|Θ_γ|: the tests of a context with those without context, counted as they are written, on no data."""
    own = sum(len(values) for _, _, values in syntax(context, shape))
    return own if context.kind == "none" else own + number_of_tests(Context("none"), shape)


def tests_of(context: Context, shape: Shape) -> list[Head]:
    """The tests that a context adds, in the order of `columns`."""
    return [Head(kind, predicate, v) for kind, predicate, values in syntax(context, shape) for v in values]


def columns(
    context: Context, shape: Shape, codes: Int[np.ndarray, "N n"], tick: Callable[[], None] = lambda: None
) -> Iterator[Bool[np.ndarray, "m N"]]:
    """The bits on data of the tests that a context adds, some at a time; `tick` is called before each part."""
    sight = Sight(context, shape.V, codes)
    for kind, predicate, values in syntax(context, shape):
        tick()
        yield bits(kind, predicate, np.arange(values.start, values.stop), sight)


def column(test: Head, sight: "Sight") -> Bool[np.ndarray, " N"]:
    """The bits of one test."""
    return bits(test.kind, test.predicate, np.array([test.value]), sight)[0]


class Sight:
    """Rows with the register of a context, and what heads see of them; that of the last predicate is kept."""

    def __init__(self, context: Context, V: int, codes: Int[np.ndarray, "N n"]):
        self.V, self.codes = V, codes
        self.u = register(context, codes, V)
        self.lengths = (codes != V).sum(1)
        self.marks = functools.lru_cache(maxsize=1)(self._marks)

    def mask(self, predicate: Predicate) -> Bool[np.ndarray, "N n"]:
        """Which tokens satisfy a predicate."""
        kind, a, b = predicate
        here = self.codes != self.V
        match kind:
            case "token":
                return self.codes == a
            case "both":
                return (self.codes == a) & (self.u == b)
            case "match":
                return (self.codes == self.u) & here
            case "flag":
                return (self.u == a) & here
        return here

    def _marks(self, predicate: Predicate) -> tuple[np.ndarray, ...]:
        """The mask, the count, and the positions of the first and last token with it."""
        if predicate[0] == "less":
            one, two = ((self.codes == name).sum(1) for name in predicate[1:])
            return np.zeros((0, 0), bool), one - two, one, two
        mask = self.mask(predicate)
        return mask, mask.sum(1), mask.argmax(1), mask.shape[1] - 1 - mask[:, ::-1].argmax(1)


def bits(kind: str, predicate: Predicate, values: Int[np.ndarray, " m"], sight: Sight) -> Bool[np.ndarray, "m N"]:
    """The bits of tests that differ in their value only."""
    mask, count, first, last = sight.marks(predicate)
    v, rows = values[:, None], np.arange(len(sight.codes))
    match kind:
        case "place":
            return mask[:, values].T
        case "from end":
            at = sight.lengths[None, :] - 1 - v
            return (at >= 0) & mask[rows[None, :], np.maximum(at, 0)]
        case "count" | "compare":
            return count[None, :] >= v
        case "exactly" | "equal":
            return count[None, :] == v
        case "odd":
            return np.broadcast_to(count[None, :] % 2 == 1, (len(values), len(count)))
    side, what = kind.split()
    where = first if side == "first" else last
    if what == "at":
        return (count > 0)[None, :] & (where[None, :] >= v)
    seen = (sight.codes if what == "is" else sight.u)[rows, where]
    return (count > 0)[None, :] & (seen[None, :] == v)
