"""A network of class CAT(L) as the integer transformer that ships: the same heads, as tables of scores and values.

The input is the read-out token and the n tokens of a row. Registers: the token with its position; where a head needs it, the distance from
the end; the context u; and the state of the read-out token, which is the test it asks next, or its answer. A test is one `Pool` whose
scores depend on the state, so that only a read-out token in this state looks at what the test looks at, and one `Local` that
moves it on. Nothing is rounded: a mean over n+1 slots of n+1 or 0 is a count.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ...transformer.quantized import Forget, Local, Pool, QuantizedNetwork, Step
from .contexts import Context, register_size
from .heads import Head, Predicate, Shape
from .problem import Tree, heads_in, leaves_in, tests_in

_HARD, _MEAN = np.array([1, 0]), np.array([1])


class _Keys:
    """What every code of the register that heads look at stands for: a position (−1: the read-out token), a name, and u."""

    def __init__(self, shape: Shape, u_size: int):
        self.shape, n, V = shape, shape.n, shape.V
        position = np.concatenate([[-1], np.repeat(np.arange(n), V + 2)])
        name = np.concatenate([[V], np.tile(np.arange(V + 2), n)])
        self.position, self.name = np.repeat(position, u_size), np.repeat(name, u_size)
        self.u = np.tile(np.arange(u_size), len(position))
        self.reader = self.position < 0

    def holds(self, predicate: Predicate) -> np.ndarray:
        """ψ of every code, as 0 and 1."""
        kind, a, b = predicate
        here = self.name != self.shape.V
        found = {
            "token": self.name == a,
            "both": (self.name == a) & (self.u == b),
            "match": (self.name == self.u) & here,
            "flag": (self.u == a) & here,
            "any": here,
        }[kind]
        return (found & ~self.reader).astype(np.int64)


def with_reader(codes: Int[np.ndarray, "N n"], V: int) -> Int[np.ndarray, "N m"]:
    """The input of the network: the read-out token, whose code is V+2, before every row."""
    return np.concatenate([np.full((len(codes), 1), V + 2), codes], axis=1)


def build_network(
    context: Context, tree: Tree, shape: Shape, name: str = "", symbols: Sequence[str] = (), classes: Sequence[str] = ()
) -> QuantizedNetwork:
    """The network as steps in integers. `symbols`, what the codes 0..V+2 stand for: the names, nothing, another name, the reader."""
    n, V = shape.n, shape.V
    embedding = np.zeros((n + 1, V + 3), np.int64)
    embedding[1:, :-1] = 1 + (V + 2) * np.arange(n)[:, None] + np.arange(V + 2)[None, :]
    embedding[1:, -1] = embedding[1:, V]
    made = _Builder(shape)
    heads = heads_in(tree)
    if context.kind in ("last", "mirror") or any(head.kind == "from end" for head in heads):
        made.measure_ends()
    if context.kind != "none" and heads:
        made.look_around(context)
    made.start()
    made.walk(tree)
    output = np.concatenate([np.zeros(tests_in(tree), np.int64), _answers(tree)])
    steps = (*made.steps, Forget((made.state,)))
    return QuantizedNetwork(embedding, steps, output, "first", name, tuple(symbols) or None, tuple(classes) or None)


def by_layer(tree: Tree) -> list[tuple[Head, int, int, int]]:
    """The tests in the order in which the network asks them: the test, its state, and the states that follow if it holds and if not."""
    layer = [(tree, 0, tests_in(tree))] if isinstance(tree, tuple) else []
    found = []
    while layer:
        below = []
        for (head, yes, no), number, answer in layer:
            left, right = number + 1, number + 1 + tests_in(yes)
            next_ = (left, answer, yes), (right, answer + leaves_in(yes), no)
            goes = [place if isinstance(part, tuple) else leaf for place, leaf, part in next_]
            found.append((head, number, goes[0], goes[1]))
            below += [(part, place, leaf) for place, leaf, part in next_ if isinstance(part, tuple)]
        layer = below
    return found


class _Builder:
    """The steps so far, and the numbers of the registers that later steps read."""

    def __init__(self, shape: Shape):
        self.shape, self.steps, self.count = shape, [], 1
        self.plain = self.keys = _Keys(shape, 1)  # of register 0 and of register `key`
        self.key = self.end = self.state = 0
        self.states = 1

    def add(self, step: Step) -> int:
        """Append a step; the number of its register."""
        self.steps.append(step)
        self.count += 1
        return self.count - 1

    def measure_ends(self) -> None:
        """How far every token is from the end of its row: the length is a mean, the rest a look-up. n where there is no token."""
        n, plain = self.shape.n, self.plain
        here = plain.holds(("any", 0, 0))
        size = len(plain.name)
        length = self.add(Pool(0, 0, 0, np.zeros((size, size), np.int64), _MEAN, (n + 1) * here))
        end = np.arange(n + 2)[None, :] - 1 - plain.position[:, None]
        self.end = self.add(Local(0, length, np.where((here[:, None] > 0) & (end >= 0) & (end < n), end, n)))

    def look_around(self, context: Context) -> None:
        """The head of the first layer, and the register that joins a token with what it saw."""
        size = register_size(context, self.shape.V)
        if context.kind == "pair":
            one, two = (self.copying(Context("back", k)) for k in (1, 2))
            V = self.shape.V
            u = self.add(Local(one, two, np.arange((V + 2) ** 2).reshape(V + 2, V + 2)))
        elif context.kind == "balance":
            u = self.balance(context)
        else:
            u = self.copying(context)
        codes = len(self.plain.name)
        self.key = self.add(Local(0, u, np.arange(codes * size).reshape(codes, size)))
        self.keys = _Keys(self.shape, size)

    def copying(self, context: Context) -> int:
        """A hard head whose sink is the read-out token, and which copies the name it finds, or the fact that it found one."""
        plain, n = self.plain, self.shape.n
        q, k = plain.position[:, None], plain.position[None, :]
        sink, key, value = plain.reader[None, :].astype(np.int64), 0, plain.name
        match context.kind:
            case "back":
                hit = 2 * ((k == q - context.a) & (k >= 0))
            case "first":
                hit = 2 * (k == 0) * np.ones_like(q)
            case "repeat":
                same = (plain.name[:, None] == plain.name[None, :]) & (plain.name[None, :] != self.shape.V)
                hit, value = np.where(same & (k < q) & (k >= 0), 2 + k, 0), (~plain.reader).astype(np.int64)
            case _:
                key, ends = self.end, np.arange(n + 1)[None, :]
                sink = (ends == n).astype(np.int64)
                hit = 2 * (ends == (0 * q if context.kind == "last" else q))
        return self.add(Pool(0, key, 0, np.maximum(hit, sink + 0 * q), _HARD, value))

    def balance(self, context: Context) -> int:
        """A causal mean of +1 and −1, scaled so that it rounds to 0 only if it is 0, and its sign."""
        plain, n = self.plain, self.shape.n
        step = (plain.name == context.a).astype(np.int64) - (plain.name == context.b)
        size, reach = len(plain.name), n + 1
        mean = self.add(
            Pool(0, 0, 0, np.zeros((size, size), np.int64), _MEAN, reach * step, causal=True, rounding="odd")
        )
        sign = 1 + np.sign(np.arange(-reach, reach + 1))
        return self.add(Local(mean, mean, np.repeat(sign[:, None], len(sign), 1)))

    def start(self) -> None:
        """The read-out token asks the first test."""
        size = len(self.plain.name)
        self.state = self.add(Local(0, 0, np.zeros((size, size), np.int64)))

    def walk(self, tree: Tree) -> None:
        """The tests, layer after layer. Tests have the numbers 0, 1, … of `heads_in`; answers follow, from left to right."""
        self.states = tests_in(tree) + leaves_in(tree)
        for head, number, yes, no in by_layer(tree):
            self.ask(head, number, yes, no)

    def ask(self, head: Head, number: int, yes: int, no: int) -> None:
        """The head of one test, and the look-up that moves a read-out token in state `number` to `yes` or `no`."""
        mean, key, scores, values, bits = self.tables(head)
        table = np.zeros((self.states, len(scores)), np.int64)
        if not mean:
            table[:] = self.end_sink() if key == self.end != 0 else self.keys.reader
            table[number] = scores
        found = self.add(Pool(self.state, key, self.key, table, _MEAN if mean else _HARD, values))
        move = np.repeat(np.arange(self.states)[:, None], len(bits), 1)
        move[number] = np.where(bits, yes, no)
        self.state = self.add(Local(self.state, found, move))

    def end_sink(self) -> np.ndarray:
        """1 for the read-out token and places without a token, in the codes of the distance from the end."""
        return (np.arange(self.shape.n + 1) == self.shape.n).astype(np.int64)

    def tables(self, head: Head) -> tuple[bool, int, np.ndarray, np.ndarray, np.ndarray]:
        """Of a test: whether its head is a mean, the register of its keys, its scores, its values, and the bit of every outcome."""
        (kind, predicate, value), keys, n = head, self.keys, self.shape.n
        if predicate[0] == "less":
            held = keys.holds(("token", predicate[1], 0)) - keys.holds(("token", predicate[2], 0))
        else:
            held = keys.holds(predicate)
        if kind in ("count", "exactly", "odd", "compare", "equal"):
            values = (n + 1) * held
            counts = np.arange(values.min(), values.max() + 1)
            good = {"count": counts >= value, "compare": counts >= value, "odd": counts % 2 == 1}
            return True, self.key, np.zeros(len(held), np.int64), values, good.get(kind, counts == value)
        key, sink, sees = self.key, keys.reader.astype(np.int64), held
        if kind == "place":
            scores = 2 * (keys.position == value)
        elif kind == "from end":
            key, sink = self.end, self.end_sink()
            scores = 2 * (np.arange(n + 1) == value)
        else:
            side, what = kind.split()
            scores = held * (n + 2 - keys.position if side == "first" else 2 + keys.position)
            sees = {"at": keys.position >= value, "is": keys.name == value, "sees": keys.u == value}[
                what
            ] & ~keys.reader
        values = sees.astype(np.int64)
        return False, key, np.maximum(scores, sink), values, np.arange(values.min(), values.max() + 1) == 1


def _answers(tree: Tree) -> list[int]:
    return [*_answers(tree[1]), *_answers(tree[2])] if isinstance(tree, tuple) else [int(tree)]
