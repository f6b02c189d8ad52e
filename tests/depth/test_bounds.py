"""Risk bounds: the loss range is attained, coverage holds on resamples, a wrong range is caught, vacuity is flagged."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from maths_oracles import log_covering_of_ball

import steerax as sx
from steerax.depth.measure.bounds import coverage, loss_range, risk_bound
from steerax.maths.lipschitz import Certified, Estimated


def test_no_state_of_any_size_has_a_loss_above_the_range_and_some_come_close(small_gpt):
    gpt = small_gpt(epsilon=0.0)
    B = loss_range(gpt)
    assert isinstance(B, Certified)
    X = 10 * jax.random.normal(jax.random.key(0), (4000, 8))
    # and the direction that separates the two tokens farthest apart
    W = gpt.token_embedding * gpt.ln_final.weight[None]
    apart = W[:, None] - W[None]
    X = jnp.concatenate([X, apart.reshape(-1, 8) + 1e-9 * X[: len(W) ** 2]])
    logits = eqx.filter_jit(gpt.unembed)(X)
    worst = float((jax.nn.logsumexp(logits, -1) - logits.min(-1)).max())
    assert worst <= float(B)
    assert worst > float(B) - math.log(7) - 1e-6


def test_large_vocabularies_pay_at_most_a_factor_of_two(small_gpt):
    gpt = small_gpt()
    exact, coarse = float(loss_range(gpt)), float(loss_range(gpt, limit=2))
    assert exact <= coarse <= 2 * exact + 1


def test_coverage_of_a_bernoulli_loss_and_its_tightness():
    losses = np.r_[np.ones(300), np.zeros(700)]
    for kind in ("fixed", "bernstein"):
        found = coverage(losses, 400, 1.0, 0.05, kind)
        assert found.covered >= 0.95
        assert 1 <= found.looseness <= 10
    assert coverage(losses, 400, 0.3, 0.05).covered < 0.95  # a wrong range is caught


def test_every_kind_is_its_formula():
    common = {"number": 500, "range_": Certified(3.0, "test"), "delta": 0.1}
    fixed = risk_bound("fixed", left=0.02, **common)
    assert fixed.right == pytest.approx(3 * math.sqrt(math.log(20) / 1000))
    assert fixed.looseness == pytest.approx(fixed.right / 0.02)
    assert risk_bound("finite", log_size=0.0, **common).right == pytest.approx(fixed.right)
    assert risk_bound("finite", log_size=9.0, **common).right > fixed.right
    entropy = risk_bound(
        "entropy", lipschitz=Estimated(2.0, "s"), log_covering=lambda r: log_covering_of_ball(5, 1.0, r), **common
    )
    assert entropy.right > fixed.right
    assert not entropy.certified
    assert fixed.certified
    deep = risk_bound("fixed", depth_error=Certified(0.5, "Lip C ε"), **common)
    assert deep.right == pytest.approx(fixed.right + 0.5)
    assert risk_bound("bernstein", variance=0.0, **common).right == pytest.approx(7 * 3 * math.log(40) / 3 / 499)


def test_vacuous_bounds_say_so():
    assert risk_bound("fixed", number=2, range_=40.0, trivial=math.log(50)).vacuous
    assert not risk_bound("fixed", number=10**6, range_=40.0, trivial=math.log(50)).vacuous
    # a counted ternary class on generated data: 0-1 loss, 2·12·256 ternary weights, a million sequences
    counted = risk_bound("finite", number=10**6, range_=1.0, log_size=2 * 12 * 256 * math.log(3))
    assert counted.right == pytest.approx(0.058, abs=5e-4)
    assert not counted.vacuous


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: risk_bound("finite", number=3, range_=1.0), "log_size"),
        (lambda: risk_bound("bernstein", number=3, range_=1.0), "variance"),
        (lambda: risk_bound("entropy", number=3, range_=1.0, lipschitz=1.0), "log_covering"),
        (lambda: risk_bound("fixed", number=0, range_=1.0), "number is 0"),
    ],
)
def test_rejects_bounds_that_lack_an_ingredient(call, match):
    with pytest.raises(sx.ConfigurationError, match=match):
        call()
