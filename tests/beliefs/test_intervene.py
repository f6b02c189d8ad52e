"""Belief exchange in networks that are built so that the answer is known."""

from typing import ClassVar

import beliefs_oracles as oracles
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import process_oracles as processes
import pytest

import steerax as sx
from steerax.beliefs import swap

MODEL = sx.models.mess3()
ARRAYS = processes.operators_of(MODEL)
B, T = 60, 6
OWN, OTHER = (oracles.draw(*ARRAYS, B, T, seed) for seed in (1, 2))
GPT = sx.GPT(sx.GPTConfig(vocab_size=3, block_size=T, n_layer=1, n_head=2, n_embd=8), key=0)


class Still(eqx.Module):
    """A block that adds nothing."""

    def attention_increment(self, x):
        return 0 * x

    def mlp_increment(self, x):
        return 0 * x


class Bayesian(eqx.Module):
    """A network whose stream is an affine image of the belief and four numbers that say nothing, read out exactly."""

    T: jnp.ndarray
    into: jnp.ndarray
    ignored: bool = eqx.field(static=True, default=False)
    config: ClassVar = sx.GPTConfig(vocab_size=3, block_size=6, n_layer=1, n_head=1, n_embd=8)

    def hidden_states(self, tokens):
        belief, out = jnp.ones(3) / 3, []
        for t in range(tokens.shape[0]):
            belief = belief @ self.T[tokens[t]]
            belief = belief / belief.sum()
            out.append(jnp.concatenate([belief @ self.into, jnp.sin(jnp.arange(4.0) * (1 + tokens.sum() + t))]))
        x = jnp.stack(out)
        return jnp.stack([jnp.zeros_like(x), x, x])

    def block(self, layer):
        return Still()

    def unembed(self, x):
        belief = (x[:, :4] @ jnp.linalg.pinv(self.into)) * (0 if self.ignored else 1)
        return jnp.log(jnp.maximum(belief @ self.T.sum(2).T, 1e-9))


def built(ignored=False):
    into = np.random.default_rng(0).normal(size=(3, 4))
    return Bayesian(jnp.asarray(ARRAYS[1]), jnp.asarray(into), ignored)


def test_the_written_belief_reaches_the_floor():
    found = swap(built(), MODEL, OWN, OTHER)
    assert found.place == "MLP"
    assert found.shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(found.divergence, 0, atol=1e-7)  # the exact answer at every mixture
    assert abs(found.floor[0]) < 1e-10
    assert found.effect == pytest.approx(1, abs=1e-5)
    assert swap(built(), MODEL, OWN, OTHER, "attention").effect == pytest.approx(1, abs=1e-5)


def test_controls():
    found = swap(built(), MODEL, OWN, OTHER)
    _, operators, w = ARRAYS
    own, other = (oracles.beliefs_along(*ARRAYS, strings)[:, -1] @ (operators @ w).T for strings in (OWN, OTHER))
    rows = (other * np.log(other / own)).sum(1)
    nothing, error = found.controls["no change"]
    assert nothing == pytest.approx(rows.mean(), abs=1e-9)
    assert error == pytest.approx(rows.std(ddof=1) / np.sqrt(B), abs=1e-9)
    assert found.controls["whole stream"][0] == pytest.approx(found.floor[0], abs=1e-9)
    for name in ("random direction", "wrong belief"):
        assert found.controls[name][0] > 0.3 * nothing
    assert set(found.controls) == {"no change", "whole stream", "random direction", "wrong belief"}


def test_a_network_that_does_not_use_its_belief():
    found = swap(built(ignored=True), MODEL, OWN, OTHER, steps=2)
    assert found.controls["no change"] == pytest.approx(found.floor)
    assert np.isnan(found.effect) or abs(found.effect) < 1e6
    assert found.divergence[-1] == pytest.approx(found.floor[0])


def test_nothing_written_is_the_own_answer():
    found = swap(GPT, MODEL, OWN, OTHER, steps=1)
    _, operators, w = ARRAYS
    exact = oracles.beliefs_along(*ARRAYS, OWN)[:, -1] @ (operators @ w).T
    logits = np.asarray(jax.jit(jax.vmap(GPT))(jnp.asarray(OWN)), np.float64)[:, -1]
    log_q = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    assert found.divergence[0] == pytest.approx((exact * (np.log(exact) - log_q)).sum(1).mean(), abs=1e-5)


@pytest.mark.parametrize("layer", ["embedding", "attention", "MLP", 0, 1, -1])
def test_places(layer):
    found = swap(GPT, MODEL, OWN, OTHER, layer, steps=1)
    names = ["embedding", "attention", "MLP"]
    assert found.place == (layer if isinstance(layer, str) else names[layer])
    # the stream after attention is all that the last position needs; before it, others still look at the own string
    if found.place != "embedding":
        assert found.controls["whole stream"][0] == pytest.approx(found.floor[0], abs=1e-6)
    lines = found.summary().splitlines()
    assert len(lines) == 7
    assert f"after {found.place}" in lines[0]


def test_a_swap_is_repeated_by_its_key():
    one, two, other = (swap(GPT, MODEL, OWN, OTHER, steps=1, key=key).controls for key in (3, 3, 4))
    assert one == two
    assert one["random direction"] != other["random direction"]
    assert one["no change"] == other["no change"]


@pytest.mark.parametrize(
    ("network", "own", "other", "given", "said"),
    [
        (MODEL, OWN, OTHER, {}, "network of the house"),
        (GPT, OWN[:50], OTHER, {}, "as many strings"),
        (GPT, OWN, OTHER[:, :-1], {}, "as many strings"),
        (GPT, OWN, OTHER, {"layer": "MLP 2"}, "no place 'MLP 2'"),
        (GPT, OWN, OTHER, {"layer": 3}, "no half-step 3"),
        (GPT, OWN, OTHER, {"layer": -4}, "no half-step -4"),
        (GPT, OWN, OTHER, {"steps": 0}, "steps is 0"),
        (GPT, OWN + 1, OTHER, {}, "token 3"),
        (GPT, OWN[:2], OTHER[:2], {}, "too few"),
    ],
)
def test_refusals(network, own, other, given, said):
    with pytest.raises(sx.SteeraxError, match=said):
        swap(network, MODEL, own, other, **given)
