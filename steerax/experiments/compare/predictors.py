"""The trained GPT as a predictor: probabilities of the next token on many sequences at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...data.sequences import Sequences
from ...transformer.gpt import GPT

CHUNK = 256


def gpt_log_probabilities(gpt: GPT, data: Sequences) -> np.ndarray:
    """`log p(token t+1 | tokens up to t)` for every token but the first of each sequence, `[B T-1]`."""
    out = np.zeros((data.number, data.max_length - 1))
    after = np.maximum(data.values[:, 1:], 0)
    for start in range(0, data.number, CHUNK):
        rows = slice(start, start + CHUNK)
        log_p = _log_softmax(gpt, data.values[rows, :-1])
        out[rows] = np.take_along_axis(log_p, after[rows, :, None], axis=2)[..., 0]
    return out


def gpt_probabilities(gpt: GPT, tokens: np.ndarray) -> np.ndarray:
    """`p(z | first t tokens)` after every prefix of `tokens [n T]`, `[n T V]`: entry `t` saw `t + 1` tokens."""
    parts = [np.exp(_log_softmax(gpt, tokens[i : i + CHUNK])) for i in range(0, len(tokens), CHUNK)]
    return np.concatenate(parts)


def _log_softmax(gpt: GPT, tokens: np.ndarray) -> np.ndarray:
    full = np.full((CHUNK, tokens.shape[1]), 0, np.int32)  # one shape, so that it compiles once
    full[: len(tokens)] = tokens
    return np.asarray(_forward(gpt, jnp.asarray(full)), np.float64)[: len(tokens)]


@eqx.filter_jit
def _forward(gpt, tokens):
    return jax.nn.log_softmax(jax.vmap(gpt)(tokens), axis=-1)
