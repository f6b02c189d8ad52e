"""Learning by gradients: hidden Markov models and dual-filter networks, with any optax transformation."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from .._bounds import COUNT, bounded
from .._errors import ConfigurationError, DataError
from .._results import RESULTS
from ..data.convert import as_sequences
from ..data.sequences import Sequences
from ..maths.keys import as_key
from ..models.hmm import HiddenMarkovModel
from ..models.lagged import LaggedHMM
from ..runs import loop
from ..runs.files import content_hash
from ..runs.folder import RunFolder
from ..runs.models import fill, named_leaves
from .conditional.gradient import LaggedLogits, log_likelihoods
from .densities.gradient import SeriesLogits, mean_series_loss, read_series
from .hmm.gradient import Logits
from .hmm.kernels.scaled import filter_traced
from .hmm.network import DualFilterNetwork, mean_loss

_ADAM = optax.adam(1e-2)  # one object, so that every training with it shares one compiled step


@dataclasses.dataclass(frozen=True)
class FittedByGradient:
    """What `fit_by_gradient` returns: the model, the loss (nats per observed token or observation) of every step, and the `result`."""

    model: Any
    losses: Float[np.ndarray, " steps"]
    result: RESULTS


@bounded(steps=COUNT, batch=COUNT, save_every=COUNT)
def fit_by_gradient(
    model: HiddenMarkovModel | LaggedHMM | DualFilterNetwork | Any,
    data: Sequences | Any,
    steps: int,
    key: Any = 0,
    *,
    optimizer: optax.GradientTransformation | None = None,
    batch: int = 64,
    progress: bool = True,
    hooks: tuple[Callable, ...] = (),
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: int = 1000,
) -> FittedByGradient:
    """Minimise the loss of predictions by a chain, of tokens or numbers, a model of lags, or a network over minibatches of sequences.

    The gradient passes through the filter, or through every layer of a network. Batch `n` is a pure function of
    `(key, n)`. A hidden Markov model, and a model of lags, is trained through the logits of its rows (probabilities below 1e-6 start at 1e-6);
    an emission of numbers through logarithms of what is positive and roots of its matrices, whose structure stays, to maximum likelihood
    without a prior. Steps of an optimiser have the units of means: bring channels far from unit size to it, or choose the rates.

    **Arguments:** `model`, the start; `data`; `steps`; `key`; `optimizer`, any optax transformation (Adam at 1e-2 by
    default); `batch`, sequences per step; `hooks`, called with `steerax.runs.loop.Snapshot`; `run_folder`, where
    checkpoints go every `save_every` steps; `resume`, whether to go on from what is found there (with the same
    `optimizer`), to the same model as without a stop. Ctrl-C ends the training with the model reached so far.

    **Raises:** `DataError` for data without tokens or, for a model of numbers, observations, or outside of the support; `ConfigurationError` for another model, or steps or batches below one;
    `CheckpointError` for a run folder that holds a run, if `resume` is false, or the run of another start, data, batch
    or key.
    """
    if not isinstance(model, HiddenMarkovModel | LaggedHMM | DualFilterNetwork):
        raise ConfigurationError(
            f"fit_by_gradient takes a HiddenMarkovModel, a LaggedHMM or a DualFilterNetwork, not a {type(model).__name__}."
        )
    of_numbers = isinstance(model, HiddenMarkovModel) and not model.emits_tokens
    data, values = read_series(model, data) if of_numbers else _read_tokens(model, data)
    noun = "observation" if of_numbers else "token"
    if data.n_observed == 0:
        raise DataError(f"Training by gradient needs {noun}s; the data hold none.")
    key, optimizer = as_key(key), _ADAM if optimizer is None else optimizer
    free = _free(model)
    size = min(batch, data.number)

    def advance(state, first, count):
        free, memory = state
        losses = []
        for n in range(first, first + count):
            free, memory, loss = _step(free, memory, values, jax.random.fold_in(key, n), size, optimizer)
            losses.append(loss)
        return (free, memory), {"loss": np.asarray(losses)}

    start = free, optimizer.init(eqx.filter(free, eqx.is_array))
    store = None if run_folder is None else _store(run_folder, resume, save_every, start, data, key, size)
    describe = lambda metrics, seconds: f"{metrics['loss'][-1]:.4f} nats per {noun}"
    done = loop.run(
        advance, start, steps, hooks=hooks, store=store, title="gradient", shown=progress, describe=describe
    )
    return FittedByGradient(_fitted(done.state[0], data.vocabulary), done.metrics["loss"], done.result)


def _read_tokens(model: Any, data: Any) -> tuple[Sequences, Int[Array, "B T"]]:
    """The data, and their codes. Raises `DataError`."""
    names = getattr(model, "vocabulary", None)
    data = as_sequences(data, "tokens", names)
    data = data if names is None else data.in_codes_of(names)
    if not data.is_tokens or data.n_observed == 0:
        raise DataError("Training by gradient needs tokens; the data hold none.")
    if data.values.max() >= model.n_tokens:
        raise DataError(f"The data hold token {data.values.max()}; the model knows 0 to {model.n_tokens - 1}.")
    return data, jnp.asarray(data.values)


def _free(model: Any) -> Any:
    """What is trained in place of a model: logits of its rows, and other numbers without bounds."""
    if isinstance(model, HiddenMarkovModel):
        return Logits.of(model) if model.emits_tokens else SeriesLogits.of(model)
    return LaggedLogits.of(model) if isinstance(model, LaggedHMM) else model


def _fitted(free: Any, vocabulary: Any) -> Any:
    """The model of what was trained."""
    if isinstance(free, LaggedLogits):
        return free.model().named(vocabulary)
    if isinstance(free, SeriesLogits):
        return free.model()
    return HiddenMarkovModel(*free.model().arrays, vocabulary) if isinstance(free, Logits) else free


def _store(run_folder, resume: bool, save_every: int, start: tuple, data: Sequences, key, size: int) -> loop.Store:
    """Where checkpoints go; the identity is that of the start, the data, the key and the batches."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(start[0])]
    identity = {
        "kind": f"{type(start[0]).__name__.removeprefix('_')} by gradients",
        "start": content_hash(*leaves),
        "data": content_hash(data.values, np.asarray(data.lengths)),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "batch": size,
    }
    folder = RunFolder(run_folder, identity, resume)
    pack = lambda state: {name: np.asarray(leaf) for name, leaf in named_leaves(state).items()}
    return loop.Store(folder, pack, lambda arrays: fill(start, arrays, str(folder.path)), save_every)


@eqx.filter_jit
def _step(free, memory, values, key, size: int, optimizer):
    rows = jax.random.choice(key, values.shape[0], (size,), replace=False)
    loss, slope = eqx.filter_value_and_grad(_loss)(free, jnp.swapaxes(values[rows], 0, 1))
    update, memory = optimizer.update(slope, memory, free)
    return eqx.apply_updates(free, update), memory, loss


def _loss(free: Any, tokens: Any) -> Float[Array, ""]:
    """The loss on tokens `[T B]` or series `[T B p]`."""
    if isinstance(free, SeriesLogits):
        return mean_series_loss(free.model(), tokens)
    if isinstance(free, DualFilterNetwork):
        return mean_loss(free, tokens)
    if isinstance(free, LaggedLogits):
        log_likelihood = log_likelihoods(free.model(), tokens).sum(0)
    else:
        log_likelihood = filter_traced(*free.model().arrays, tokens)[1].sum(0)
    return -log_likelihood.sum() / jnp.maximum((tokens >= 0).sum(), 1)
