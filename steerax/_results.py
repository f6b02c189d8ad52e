"""How a computation ended."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer


class RESULTS(eqx.Enumeration):
    """How an iteration ended; the text of a member is the sentence a user reads."""

    successful = ""
    max_steps_reached = (
        "The iteration stopped at its largest number of steps before the residual fell below the tolerance; "
        "allow more steps or ask for less accuracy."
    )
    interrupted = "The run was interrupted before its last step; what it returns is the state it had reached."
    stopped = "A hook, such as an early stop, ended the run before its last step."
    diverged = (
        "The iteration diverged: its numbers grew without bound, and what it returns is no solution. Take smaller steps (a lower "
        "learning rate) or another solver."
    )
    undetectable = (
        "The model is not detectable: an unstable mode leaves no trace in the observations, so no estimate has a "
        "bounded error; observe that mode or remove it."
    )
    breakdown = (
        "A numerical breakdown: a quantity that is positive in exact arithmetic was not; rescale the model or use a "
        "solver for ill-conditioned problems."
    )
    noise_free = (
        "The fitted model predicts some combination of the channels without error, so the likelihood has no maximum; its "
        "variance was held at 1e-8 of the data's. A constant or repeated channel does this, or too few observations for the order."
    )
    impossible_token = "A token has probability zero under the model given the tokens before it."
    no_better_than_one = (
        "The states found predict the data no better than a single state would, by Akaike's criterion; try more restarts, "
        "or the order of these tokens says nothing."
    )
    degenerate_state = "A hidden state is visited with expected count zero; it was left as it was. Try fewer states."


def result_where(condition: Any, yes: RESULTS, no: RESULTS) -> RESULTS:
    """One of two results, also for a condition inside `jit`."""
    if is_traced(condition, yes, no):
        return RESULTS.where(condition, yes, no)
    return yes if condition else no


def successful_if(ok: Any, failure: RESULTS) -> RESULTS:
    """`successful` or the failure."""
    return result_where(ok, RESULTS.successful, failure)


def first_failure(results: Iterable[RESULTS]) -> RESULTS:
    """The first result that is not successful, if there is one."""
    first = RESULTS.successful
    for result in results:
        first = result_where(first == RESULTS.successful, result, first)
    return first


def is_traced(*values: Any) -> bool:
    """Whether anything in some trees of arrays has a value only when a compiled function runs."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def name_of(result: Any) -> str:
    """The name of a member of `RESULTS`, for files and logs; `getattr(RESULTS, name)` is the way back."""
    return next(name for name in RESULTS._name_to_item if bool(getattr(RESULTS, name) == result))
