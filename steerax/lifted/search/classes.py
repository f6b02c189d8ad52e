r"""Small classes of integer transformers with general attention, as stages for `dynamic.FiniteProblem`.

Tokens are integers $x\in\{-C..C\}$ (codes $x+C$). A head with weights $(a,v)$ adds $v\,z_i$, $z_i$ the rounded mean of
$x_j$ under the attention weights of the scores $a\,x_ix_j$; a neuron adds $u\max(wx+b,0)$; sums are clipped to ±C.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ..._errors import ConfigurationError
from ...transformer.quantized import Forget, Local, Pool
from .dynamic import Choice, Reading

CROSS_ENTROPY_UNIT = 2.0**-32  # nats


def embed_levels(length: int, vocabulary: int, levels: int, position: bool = True) -> Int[np.ndarray, "n V"]:
    """Codes of tokens spread over −C..C; with `position`, shifted by one level for every second token."""
    values = np.rint(np.linspace(-levels, levels, vocabulary)).astype(np.int64)
    shift = (np.arange(length) % 2 if position else np.zeros(length, int))[:, None]
    return np.clip(values[None, :] + shift, -levels, levels) + levels


def attention_stages(
    levels: int,
    weights: Int[np.ndarray, "..."] | None,
    heads: int = 1,
    scores: Sequence[int] = (-1, 0, 1),
    values: Sequence[int] = (-1, 0, 1),
    causal: bool = False,
    cost: int = 0,
) -> list[tuple[Choice, ...]]:
    """One residual layer of attention: one stage a head, all reading the same tokens; the last stage adds them up.

    **Arguments:** `weights`, the table of attention (see `alphabet`) or None for linear attention, whose scores are
    shifted to be ≥ 0; `cost`, of every non-zero weight.
    """
    if heads < 1:
        raise ConfigurationError(f"heads={heads}: a layer of attention has at least one.")
    x = np.arange(-levels, levels + 1)
    stages = []
    for h in range(heads):
        stage = []
        for a, v in itertools.product(scores, values):
            score = a * np.outer(x, x)
            score = score + abs(a) * levels**2 if weights is None else score
            pooled = Pool(0, 0, 0, score, weights, x, causal, "odd")
            # registers: x, heads so far, then z; keep x, heads so far and v z
            steps = [pooled, Local(1 + h, 1 + h, _diagonal(np.clip(v * x, -levels, levels) + levels))]
            keep = [0, *range(1, 1 + h), 2 + h]
            steps.append(Forget(tuple(keep)))
            if h == heads - 1:
                add = np.clip(x[:, None] + x[None, :], -levels, levels) + levels
                steps += [
                    s for r in range(heads) for s in (Local(0, 1 + r, add), Forget((heads + 1, *range(1, heads + 1))))
                ]
                steps.append(Forget((0,)))
            stage.append(Choice(f"a={a} v={v}", tuple(steps), cost * ((a != 0) + (v != 0))))
        stages.append(tuple(stage))
    return stages


def neuron_stage(levels: int, biases: Sequence[int] = (-1, 0, 1), cost: int = 0) -> tuple[Choice, ...]:
    """One residual neuron x ← clip(x + u max(w x + b, 0)) at every token, ternary u and w."""
    x = np.arange(-levels, levels + 1)
    stage = []
    for u, w, b in itertools.product((-1, 0, 1), (-1, 0, 1), biases):
        table = np.clip(x + u * np.maximum(w * x + b, 0), -levels, levels) + levels
        stage.append(Choice(f"u={u} w={w} b={b}", (Local(0, 0, _diagonal(table)), Forget((1,))), cost * (u != 0)))
    return tuple(stage)


def threshold_readings(levels: int) -> tuple[Reading, ...]:
    """All thresholds on register 0 and their complements, with 0–1 loss."""
    x = np.arange(-levels, levels + 1)
    readings = []
    for threshold, flipped in itertools.product(range(-levels, levels + 2), (False, True)):
        output = ((x >= threshold) != flipped).astype(np.int64)
        loss = np.stack([output != 0, output != 1], -1).astype(np.int64)
        readings.append(Reading(f"threshold={threshold} flipped={flipped}", loss, output))
    return tuple(readings)


def logit_readings(levels: int, scales: Sequence[float] = (0.5, 1.0, 2.0)) -> tuple[Reading, ...]:
    """Logits ±scale·(x − shift) for labels 1 and 0, with cross-entropy as an integer table."""
    x = np.arange(-levels, levels + 1)
    readings = []
    for scale, shift, sign in itertools.product(scales, range(-levels, levels + 1), (-1, 1)):
        logit = sign * scale * (x - shift)
        logits = np.stack([-logit / 2, logit / 2], -1)
        name = f"scale={sign * scale} shift={shift}"
        readings.append(Reading(name, cross_entropy_table(logits), (logit >= 0).astype(np.int64)))
    return tuple(readings)


def cross_entropy_table(logits: Float[np.ndarray, "K Y"]) -> Int[np.ndarray, "K Y"]:
    """Cross-entropy of every row of logits against every label, in units of 2^-32 nats, rounded to nearest.

    The table is the loss that is minimised; a sum over N sequences is within N·2^-33 nats of the real one.
    """
    top = logits.max(-1, keepdims=True)
    nats = top + np.log(np.exp(logits - top).sum(-1, keepdims=True)) - logits
    if not math.isfinite(float(nats.max())) or nats.max() > 2**10:
        raise ConfigurationError(
            "The logits are not finite or so large that a loss exceeds 1024 nats; scale them down."
        )
    return np.rint(nats / CROSS_ENTROPY_UNIT).astype(np.int64)


def _diagonal(values: Int[np.ndarray, "..."]) -> Int[np.ndarray, "K K"]:
    """A look-up of one register, as a look-up of it with itself."""
    return np.diag(values)
