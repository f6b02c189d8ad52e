"""Costates of a GPT are gradients exactly, and obey two exact laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.depth.measure import costate as c
from steerax.depth.measure.scoring import mean_loss, scored_tokens, summed_loss

# Every option of the architecture, each with another value at least once. (All GPTs here are pre-LayerNorm, and every
# head has its own keys and values.) Rows of more than 256 tokens are looked up, of fewer multiplied.
OPTIONS = {
    "plain": {},
    "untied, tanh": {"tied": False, "activation": "gelu_tanh"},
    "untied, no bias, one head": {"tied": False, "bias": False, "n_head": 1},
    "missing tokens": {"missing": True},
    "heads of width one, one layer, dropout, many tokens": {
        "n_head": 8,
        "n_layer": 1,
        "dropout": 0.5,
        "vocab_size": 300,
    },
}


def with_injections(gpt, tokens, targets, Z):
    """The mean loss with Z added to the residual stream at every half-step: its gradients are the costates."""

    def layer(X, now):
        block, first, second = now
        X = X + block.attention_increment(X) + first
        return X + block.mlp_increment(X) + second, None

    def one(tokens, Z):
        X = jax.lax.scan(layer, gpt.embed(tokens) + Z[0], (gpt.blocks, Z[1::2], Z[2::2]))[0]
        return gpt.unembed(X)

    logits = jax.vmap(one, in_axes=(0, 1))(tokens, Z)
    losses = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return jnp.where(targets >= 0, losses, 0).sum() / (targets >= 0).sum()


@pytest.mark.parametrize("name", OPTIONS)
def test_costates_are_the_gradient_of_the_loss(name, small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0, **OPTIONS[name]), small_batch
    if gpt.config.missing:
        tokens, targets = tokens.at[0, 2].set(-1), targets.at[0, 1].set(-1)
    found = c.costates(gpt, tokens, targets, memory="store" if gpt.config.n_head == 1 else "recompute")
    loss, gradient = jax.jit(jax.value_and_grad(with_injections, 3))(gpt, tokens, targets, jnp.zeros_like(found.states))
    np.testing.assert_allclose(found.loss, loss, rtol=1e-13)
    np.testing.assert_allclose(found.costates, gradient, rtol=0, atol=1e-12 * float(jnp.abs(gradient).max()))
    # the two laws of pre-LayerNorm networks
    size = jnp.abs(found.costates).max()
    assert jnp.abs(found.costates.sum(-1)).max() < 1e-14 * size * gpt.config.n_embd
    assert found.ledger.relative_defect < 1e-12  # exact, as the LayerNorm epsilon is 0


def test_rejects_a_memory_mode_there_is_not(small_gpt, small_batch):
    with pytest.raises(sx.ConfigurationError, match="memory mode 'keep'"):
        c.states_for(small_gpt(), small_batch[0], "keep")


def test_the_terminal_costate_is_the_softmax_residual_through_the_final_layernorm(small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    found = c.costates(gpt, tokens, targets)
    X = found.states[-1]
    residual = jax.nn.softmax(jax.vmap(gpt.unembed)(X)) - jax.nn.one_hot(targets, 7)
    residual = jnp.where((targets >= 0)[..., None], residual, 0) / (targets >= 0).sum()
    plain = residual @ gpt.token_embedding
    pulled = jax.vjp(jax.vmap(gpt.ln_final), X)[1](plain)[0]
    np.testing.assert_allclose(found.costates[-1], pulled, rtol=1e-11, atol=1e-14)
    assert jnp.linalg.norm(plain - pulled) > 0.3 * jnp.linalg.norm(pulled)  # it may not be left out


def test_the_hamiltonian_pairs_the_state_with_the_next_costate(small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    found = c.costates(gpt, tokens, targets)
    P, X = found.costates, found.states
    step = jnp.diff(X, axis=0)
    balance = lambda P: jnp.abs((found.costates[0] * X[0]).sum(-1) + (P * step).sum((0, -1)))
    entries = jnp.abs((P[1:] * step).sum(-1)).max()
    assert balance(P[1:]).max() < 1e-12 * entries
    assert balance(P[:-1]).max() > 0.05 * entries  # P_m in place of P_{m+1} breaks the law
    np.testing.assert_allclose(found.ledger.by_half_step, (P[1:] * step).sum((1, 2, 3)), rtol=1e-10, atol=1e-14)


def test_the_layernorm_epsilon_is_the_only_defect_of_the_ledger(small_gpt, small_batch):
    defects = [c.costates(small_gpt(epsilon=e), *small_batch).ledger.relative_defect for e in (1e-5, 1e-3)]
    assert 1e-6 < defects[0] < 1e-2
    assert 30 < defects[1] / defects[0] < 110  # proportional to the epsilon


def test_a_head_is_split_exactly_over_the_tokens_it_reads(small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    found = c.costates(gpt, tokens, targets)
    entries = c.ledger_by_source(gpt, found, 1, 2)
    np.testing.assert_allclose(entries.sum(-1), found.ledger.heads[1, :, 2], rtol=1e-10, atol=1e-15)
    assert (np.triu(np.asarray(entries), 1) == 0).all()


def test_costates_flow_from_later_to_earlier_tokens(small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    only_third = jnp.full_like(targets, -1).at[:, 2].set(targets[:, 2])
    P = c.costates(gpt, tokens, only_third).costates
    assert (P[:, :, 3:] == 0).all()
    assert (jnp.abs(P[0, :, :3]).max(-1) > 0).all()
    assert (P[-1, :, :2] == 0).all()


def test_gradients_of_blocks_come_with_the_same_pass(small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    N = (targets >= 0).sum()

    @eqx.filter_jit
    def both(gpt):
        X = c.half_step_states(gpt, tokens)
        P = jax.grad(lambda X: c.token_losses(gpt, X, targets).sum() / N)(X[-1])
        return c.backward(gpt, X, P, gradient=True)

    found = both(gpt)
    whole = lambda blocks: summed_loss(eqx.tree_at(lambda g: g.blocks, gpt, blocks), tokens, targets) / N
    for a, b in zip(jax.tree.leaves(found.gradient), jax.tree.leaves(jax.grad(whole)(gpt.blocks)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)
    # stationarity of the output maps is the first-order effect of removing the half-step
    g = found.gradient
    rows = lambda a, b: (a * b).reshape(len(a), -1).sum(1)
    pairing = rows(gpt.blocks.down.weight, g.down.weight) + rows(gpt.blocks.down.bias, g.down.bias)
    np.testing.assert_allclose(pairing, found.ledger.mlp.sum((1, 2)), rtol=1e-10)


def test_logits_in_blocks_change_nothing(monkeypatch, small_gpt, small_batch):
    gpt, (tokens, targets) = small_gpt(epsilon=0.0), small_batch
    X = c.half_step_states(gpt, tokens)[-1]
    together = c.token_losses(gpt, X, targets)
    monkeypatch.setattr(c, "LOGITS_AT_ONCE", 5 * 7)
    np.testing.assert_allclose(c.token_losses(gpt, X, targets), together, rtol=1e-14)
    np.testing.assert_allclose(mean_loss(gpt, tokens), together.sum() / (targets >= 0).sum(), rtol=1e-13)


@pytest.mark.parametrize(
    ("tokens", "targets", "match"),
    [
        (np.zeros((2, 6)), None, "integers"),
        (np.zeros(6, int), None, "shape"),
        (np.zeros((2, 8), int), None, "cut it into windows"),
        (np.full((2, 6), 7), None, "knows 0 to 6"),
        (np.asarray([[1, -1, 2, 0, 0, 0]]), None, "gaps"),
        (np.zeros((2, 6), int), np.zeros((2, 5), int), "shape"),
        (np.zeros((2, 6), int), np.full((2, 6), -1), "nothing to predict"),
    ],
)
def test_rejects_tokens_it_cannot_score(tokens, targets, match, small_gpt):
    with pytest.raises(sx.DataError, match=match):
        scored_tokens(small_gpt(), tokens, targets)


def test_padding_and_a_last_target_column_are_understood(small_gpt):
    gpt = small_gpt()
    tokens, targets = scored_tokens(gpt, np.asarray([[1, 2, 3, -1, -1, -1]]))
    assert targets.tolist() == [[2, 3, -1, -1, -1, -1]]
    assert tokens.tolist() == [[1, 2, 3, 0, 0, 0]]
    tokens, targets = scored_tokens(gpt, np.arange(7)[None])
    assert tokens.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert targets.tolist() == [[1, 2, 3, 4, 5, 6]]


def test_the_relative_defect_is_over_the_largest_entry_of_either_kind():
    rng = np.random.default_rng(0)
    for large in (0, 1):
        parts = {"embedding": (2, 3), "heads": (2, 4, 2, 3), "attention_bias": (2, 2, 3), "mlp": (2, 2, 3)}
        parts = {name: rng.normal(size=shape) for name, shape in parts.items()}
        parts["mlp"] *= (0.1, 100.0)[large]
        attention = [[[sum(parts["heads"][l, :, b, t]) + parts["attention_bias"][l, b, t] for t in range(3)]
                      for b in range(2)] for l in range(2)]  # fmt: skip
        defect = max(
            abs(parts["embedding"][b, t] + sum(attention[l][b][t] + parts["mlp"][l, b, t] for l in range(2)))
            for b in range(2) for t in range(3)
        )  # fmt: skip
        largest = max(np.max(np.abs(attention)), np.max(np.abs(parts["mlp"])))
        ledger = c.Ledger(**{name: jnp.asarray(a) for name, a in parts.items()})
        assert ledger.relative_defect == pytest.approx(defect / largest)
