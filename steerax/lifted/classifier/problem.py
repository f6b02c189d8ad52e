"""A table with integer costs and a class of networks: what the search minimises, a certificate speaks of and the checker enumerates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from ...runs.files import content_hash
from .contexts import Context
from .heads import Head, Shape, Sight, column

Tree = Any  # a label, or (Head, tree where it holds, tree where it does not)


@dataclass(frozen=True, eq=False)
class Problem:
    """Least cost plus price of a network of class CAT(`depth`).

    **Attributes:** `codes [N n]`; `costs [N K]`, of every answer, in units of the objective; `price`, λ, of every test and of a
    context; `contexts` Γ; `shape`, what the tests depend on; `depth`.
    """

    codes: Int[np.ndarray, "N n"]
    costs: Int[np.ndarray, "N K"]
    price: int
    contexts: tuple[Context, ...]
    shape: Shape
    depth: int

    def objective(self, context: Context, tree: Tree) -> int:
        """Costs and prices of a network, evaluated row by row."""
        labels = labels_of(tree, Sight(context, self.shape.V, self.codes))
        wrong = int(self.costs[np.arange(len(labels)), labels].sum())
        return wrong + self.price * (tests_in(tree) + (context.kind != "none"))

    @property
    def identity(self) -> str:
        """Digits of the data and the class."""
        return content_hash(
            self.codes, self.costs, self.price, [list(c) for c in self.contexts], list(self.shape), self.depth
        )

    def merged(self) -> tuple["Problem", int]:
        """The same problem with equal rows as one and what no answer to them avoids taken off, and that sum: the collision bound."""
        distinct, of = np.unique(self.codes, axis=0, return_inverse=True)
        costs = np.zeros((len(distinct), self.costs.shape[1]), np.int64)
        np.add.at(costs, of.ravel(), self.costs)
        floor = costs.min(1)
        rest = Problem(distinct, costs - floor[:, None], self.price, self.contexts, self.shape, self.depth)
        return rest, int(floor.sum())


def labels_of(tree: Tree, sight: Sight) -> Int[np.ndarray, " N"]:
    """The answers of a network, by columns of bits."""
    if not isinstance(tree, tuple):
        return np.full(len(sight.codes), tree)
    head, yes, no = tree
    return np.where(column(head, sight), labels_of(yes, sight), labels_of(no, sight))


def leaf_numbers(tree: Tree, sight: Sight, first: int = 0) -> Int[np.ndarray, " N"]:
    """The number of the leaf in which every row ends, from left to right."""
    if not isinstance(tree, tuple):
        return np.full(len(sight.codes), first)
    head, yes, no = tree
    inside, outside = leaf_numbers(yes, sight, first), leaf_numbers(no, sight, first + leaves_in(yes))
    return np.where(column(head, sight), inside, outside)


def tests_in(tree: Tree) -> int:
    """The number of tests."""
    return 1 + tests_in(tree[1]) + tests_in(tree[2]) if isinstance(tree, tuple) else 0


def leaves_in(tree: Tree) -> int:
    """The number of answers."""
    return tests_in(tree) + 1


def depth_of(tree: Tree) -> int:
    """The most tests on a way to an answer."""
    return 1 + max(depth_of(tree[1]), depth_of(tree[2])) if isinstance(tree, tuple) else 0


def heads_in(tree: Tree) -> list[Head]:
    """The tests, root first."""
    return [tree[0], *heads_in(tree[1]), *heads_in(tree[2])] if isinstance(tree, tuple) else []


def tree_to_lists(tree: Tree) -> Any:
    """A network as JSON values."""
    if not isinstance(tree, tuple):
        return int(tree)
    kind, predicate, value = tree[0]
    return [[kind, [predicate[0], int(predicate[1]), int(predicate[2])], int(value)], *map(tree_to_lists, tree[1:])]


def tree_from_lists(content: Any) -> Tree:
    """The network written by `tree_to_lists`. **Raises:** `ValueError`, `TypeError` if it is malformed."""
    if isinstance(content, int):
        return content
    (kind, (of, a, b), value), yes, no = content
    return Head(str(kind), (str(of), int(a), int(b)), int(value)), tree_from_lists(yes), tree_from_lists(no)
