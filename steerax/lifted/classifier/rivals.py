"""A classifier beside the best tree of the same depth and gradient training of the same class, on the same rows and costs."""

import os
import time
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from .contexts import Context
from .description import bits
from .heads import Sight
from .problem import Problem, Tree, labels_of
from .search import search

QUICK = 3e6  # rows times tests times contexts that gradient training takes without being asked: some five seconds


class Contestant(NamedTuple):
    """**Attributes:** `name`; `context`, `tree`, the network; `objective` and `lower` (None for gradient training, which proves nothing), in
    units of one error; `bits`, of its description in its class; `seconds`."""

    name: str
    context: Context
    tree: Tree
    objective: float
    lower: float | None
    bits: float
    seconds: float

    @property
    def status(self) -> str:
        """ "proven" or "gap"; "trained" without a bound."""
        return "trained" if self.lower is None else "proven" if self.lower == self.objective else "gap"

    def numbers(self, model: Any, held: tuple[Int[np.ndarray, "M n"], np.ndarray] | None) -> dict[str, Any]:
        """What is said of it: accuracy on the rows of the model, and on others, `held`, codes and labels, if there are any."""
        p = model.certificate_.problem
        answers = lambda codes: model.classes_[labels_of(self.tree, Sight(self.context, p.shape.V, codes))]
        train = float((answers(p.codes) == model.classes_[model.targets_]).mean())
        found = {"train_accuracy": train, "objective": self.objective, "lower_bound": self.lower, "status": self.status}
        found |= {"bits": self.bits, "seconds": self.seconds}
        if held is None:
            return found
        return found | {"test_accuracy": float((answers(held[0]) == held[1]).mean()), "test_rows": len(held[1])}


def contestants(model: Any, gradient: bool | None = True, seed: int = 0) -> list[Contestant]:
    """A fitted model, named "attention", the "best tree", and "gradient" training if asked for (None: where it is quick)."""
    p = model.certificate_.problem
    number, found = len(model.classes_), model.certificate_
    in_errors = lambda value: float(Fraction(value) / Fraction(found.unit))
    size = lambda context, tree, of: bits(context, tree, len(of.contexts), of.shape, number)
    out = [
        Contestant(
            "attention", found.context, found.tree, model.objective_, model.lower_bound_, model.bits_, model.seconds_
        )
    ]
    trees = Problem(p.codes, p.costs, p.price, p.contexts[:1], p.shape._replace(families=("place",)), p.depth)
    best = search(trees, model.time_limit, model.memory_limit, model.n_jobs or os.cpu_count() or 1)
    length = size(best.context, best.tree, trees)
    out.append(
        Contestant(
            "best tree", best.context, best.tree, in_errors(best.upper), in_errors(best.lower), length, best.seconds
        )
    )
    if gradient is None:
        gradient = len(p.codes) * found.columns * len(p.contexts) < QUICK
    if gradient:
        from .gradient import train

        started = time.monotonic()
        trained = train(p, seed)
        length = size(trained.context, trained.tree, p)
        seconds = time.monotonic() - started
        out.append(
            Contestant("gradient", trained.context, trained.tree, in_errors(trained.objective), None, length, seconds)
        )
    return out
