r"""How long the description of a network is, and what that says about rows not seen.

The prefix code: the context among those allowed; one bit at every node, test or answer; a test among all of its context, as they are
written; an answer among the classes. With probability $1-\eta$ over $N$ independent rows, all networks of the class satisfy
$\mathrm{err}\le\mathrm{err}_N+\sqrt{(B\ln2+\ln\frac1\eta)/2N}$ (Occam's razor: Hoeffding's inequality and Kraft's). Names and length count
as known before the rows.
"""

import math

from ..._bounds import SHARE, bounded
from ..._errors import ConfigurationError
from .contexts import Context
from .heads import Shape, number_of_tests
from .problem import Tree, leaves_in, tests_in


def bits(context: Context, tree: Tree, contexts: int, shape: Shape, classes: int) -> float:
    """B, the length of the description of a network, in bits."""
    tests, leaves = tests_in(tree), leaves_in(tree)
    each = math.log2(max(number_of_tests(context, shape), 1))
    return math.log2(contexts) + tests + leaves + tests * each + leaves * math.log2(classes)


@bounded(confidence=SHARE)
def error_bound(errors: float | int, rows: int, length: float | int, confidence: float | int) -> float:
    """The bound on the error rate, 1 where it says nothing. `errors`, on `rows` independent rows; `length`, bits."""
    if rows < 1:
        raise ConfigurationError("A bound needs a row.")
    return min(1.0, errors / rows + math.sqrt((length * math.log(2) - math.log(1 - confidence)) / (2 * rows)))
