"""The two models that are compared: a hidden Markov model, given or learned, and a trained GPT."""

import dataclasses
import pathlib

import jax
import numpy as np

from ..._errors import ConfigurationError
from ..._results import RESULTS
from ...models.sampling import sample_batch
from ...runs import models
from ...runs.files import read_json
from ...runs.folder import RunFolder
from ...training.gradient import train_gpt
from ...transformer.gpt import GPT, GPTConfig
from .config import Config
from .sources import Process, Source

_STATES_FOR_DATA = 16
_PIECE = 256  # long sequences are cut for Baum-Welch, so that its recursions run side by side
_PSEUDOCOUNT = 0.1  # of every token in every state, so that no held-out token is impossible


@dataclasses.dataclass(frozen=True)
class TrainedGPT:
    """A GPT after `steps` of training, the loss of each step in nats per token, and how the training ended."""

    model: GPT
    losses: np.ndarray
    steps: int
    result: RESULTS


def hidden_markov_model(config: Config, source: Source, folder: pathlib.Path) -> Process:
    """The true model of a named process, or one learned from the training sequences, which is kept in `folder`."""
    if source.process is not None and config.states is None:
        return source.process
    if (folder / "model.json").exists():
        return models.load(folder)
    from ...inference.hmm.fit import fit_tokens
    from ...inference.kinds import HMM

    fitted = fit_tokens(
        HMM(config.states or _STATES_FOR_DATA),
        source.training.cut(_PIECE),
        config.key("baum-welch"),
        restarts=config.restarts,
        pseudocounts=_PSEUDOCOUNT,
        max_iterations=config.iterations,
        tolerance=1e-5,
    )
    models.save(fitted.model, folder, source.vocabulary)
    return fitted.model


def gpt_shape(config: Config, source: Source) -> GPTConfig:
    """The shape of the GPT for a source. **Raises:** `ConfigurationError` for sizes that do not fit together."""
    layers, heads, width, _, length = config.shape
    missing = source.training.has_gaps or source.held_out.has_gaps
    tied = not source.drawn or config.source == "two-cycle"  # few tokens leave a tied unembedding little room
    return GPTConfig(len(source.vocabulary), length, layers, heads, width, missing=missing, tied=tied)


def given_gpt(config: Config, source: Source) -> TrainedGPT:
    """The network of `--network`. **Raises:** `ConfigurationError` if it reads other tokens or too few of them."""
    from ...transformer.checkpoint import open_checkpoint

    assert config.network is not None
    found = open_checkpoint(config.network).gpt
    if found.config.vocab_size != len(source.vocabulary):
        raise ConfigurationError(
            f"The network {config.network} has {found.config.vocab_size} tokens, the data {len(source.vocabulary)}."
        )
    if found.config.block_size < config.shape.length:
        raise ConfigurationError(
            f"The network {config.network} reads {found.config.block_size} tokens; choose --length {found.config.block_size}."
        )
    return TrainedGPT(found, np.zeros(0), 0, RESULTS.successful)


def trained_gpt(config: Config, source: Source, shape: GPTConfig, folder: pathlib.Path) -> TrainedGPT:
    """The GPT after training, which continues from the newest checkpoint in `folder`.

    **Raises:** `ConfigurationError` if the training diverges.
    """
    process, data, steps = source.process, source.training, config.shape.steps
    if process is not None and source.drawn:
        data = lambda key, step: sample_batch(process, key, config.batch, config.shape.length + 1)
    keys = jax.random.split(config.key("gpt"))
    run = train_gpt(
        GPT(shape, key=keys[0]),
        data,
        steps,
        keys[1],
        batch_size=config.batch,
        run_folder=folder,
        resume=True,
        save_every=max(100, steps // 20),
    )
    if run.result == RESULTS.diverged:
        raise ConfigurationError(f"Training diverged after {run.step} steps; try another --seed, or a wider network.")
    return TrainedGPT(run.model, run.losses, run.step, run.result)


def gpt_so_far(config: Config, shape: GPTConfig, folder: pathlib.Path) -> TrainedGPT:
    """The GPT of the newest checkpoint in `folder`. **Raises:** `ConfigurationError` if there is none."""
    latest = RunFolder(folder, read_json(folder / "run.json"), resume=True).latest() if folder.exists() else None
    if latest is None:
        raise ConfigurationError(f"{config.folder} holds no checkpoint yet; continue training with --resume.")
    arrays, state = latest
    weights = {name.removeprefix("0."): array for name, array in arrays.items() if name.startswith("0.")}
    model = models.fill(GPT.template(shape), weights, str(folder))
    return TrainedGPT(model, arrays["metric:loss"], state["step"], RESULTS.interrupted)
