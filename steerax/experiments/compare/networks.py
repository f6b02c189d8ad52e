"""The two models that are compared: a hidden Markov model, given or learned, and a trained GPT."""

import dataclasses
import pathlib

import jax
import numpy as np

from ..._errors import ConfigurationError
from ..._results import RESULTS
from ...models.hmm import HiddenMarkovModel
from ...models.sampling import sample_batch
from ...runs import models
from ...runs.files import RunFolder, read_json
from ...training.gradient import train_gpt
from ...training.optimiser import adamw
from ...transformer.gpt import GPT, GPTConfig
from .config import Config
from .sources import Source

STATES_FOR_DATA = 16
PIECE = 256  # long sequences are cut for Baum-Welch, so that its recursions run side by side


PSEUDOCOUNT = 0.1  # of every token in every state, so that no held-out token is impossible


@dataclasses.dataclass(frozen=True)
class Trained:
    """A GPT after `steps` of training, with the loss of each step, and what it is in words."""

    gpt: GPT
    losses: np.ndarray
    steps: int
    interrupted: bool
    text: str


def hidden_markov_model(config: Config, source: Source, folder: pathlib.Path) -> tuple[HiddenMarkovModel, str]:
    """The true model of a named process, or one learned from the training data (kept in `folder`), and its description."""
    if source.process is not None and config.states is None:
        return (
            source.process,
            f"The hidden Markov model is the true process, with its {source.process.n_states} states.",
        )
    states = config.states or STATES_FOR_DATA
    text = f"The hidden Markov model has {states} states, learned by Baum-Welch from the training sequences"
    if (folder / "model.json").exists():
        return models.load(folder), f"{text}."
    from ...inference.hmm.fit import fit_tokens
    from ...inference.kinds import HMM

    data = source.training.cut(PIECE)
    fit = fit_tokens(
        HMM(states),
        data,
        config.key("baum-welch"),
        restarts=config.restarts,
        pseudocounts=PSEUDOCOUNT,
        max_iterations=config.iterations,
        tolerance=1e-5,
    )
    models.save(fit.model, folder, source.vocabulary)
    return fit.model, f"{text} (best of {config.restarts} starts)."


def shape_of(config: Config, source: Source) -> GPTConfig:
    """The shape of the GPT for a source. **Raises:** `ConfigurationError` if there is none."""
    size = config.network()
    return GPTConfig(
        vocab_size=len(source.vocabulary),
        block_size=config.length,
        n_layer=size["layers"],
        n_head=size["heads"],
        n_embd=size["width"],
        missing=source.training.has_gaps or source.held_out.has_gaps,
    )


def gpt(config: Config, source: Source, shape: GPTConfig, folder: pathlib.Path, train: bool) -> Trained:
    """The GPT after training, continued from the newest checkpoint in `folder`; untouched if `train` is false."""
    keys = jax.random.split(config.key("gpt"))
    model = GPT(shape, key=keys[0])
    text = (
        f"A GPT of {shape.n_layer} layer{'s' * (shape.n_layer > 1)}, {shape.n_head} head{'s' * (shape.n_head > 1)}, width "
        f"{shape.n_embd} and block size {shape.block_size} ({model.n_parameters:,} parameters), trained by AdamW on batches "
        f"of {config.batch} windows, with warm-up and cosine decay."
    )
    if not train:
        return _from_checkpoint(shape, folder, text)
    process = source.process
    data = source.training
    if process is not None:
        data = lambda key, step: sample_batch(process, key, config.batch, config.length + 1)
    steps = config.network()["steps"]
    run = train_gpt(
        model,
        data,
        steps,
        keys[1],
        adamw(steps, learning_rate(shape.n_embd), b2=0.95),
        batch_size=config.batch,
        run_folder=folder,
        resume=True,
        save_every=max(100, steps // 20),
    )
    if run.result == RESULTS.diverged:
        raise ConfigurationError(f"Training diverged after {run.step} steps; try another --seed, or a wider network.")
    return Trained(run.model, run.losses, run.step, bool(run.result == RESULTS.interrupted), text)


def learning_rate(width: int) -> float:
    """The peak rate: 1e-2 at width 8, where 2e-2 ends in a poor optimum more often, falling like 1/√width."""
    return 1e-2 * (8 / width) ** 0.5


def _from_checkpoint(shape: GPTConfig, folder: pathlib.Path, text: str) -> Trained:
    found = RunFolder(folder, read_json(folder / "run.json"), resume=True).latest() if folder.exists() else None
    if found is None:
        raise ConfigurationError(f"{folder.parent.parent} holds no checkpoint yet; continue training with --resume.")
    arrays, state = found
    weights = {name.removeprefix("0."): a for name, a in arrays.items() if name.startswith("0.")}
    losses = arrays["metric:loss"]
    return Trained(models.fill(GPT.template(shape), weights, str(folder)), losses, state["step"], True, text)
