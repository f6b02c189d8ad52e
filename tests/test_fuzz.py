"""Many small random models against exact answers in extended precision: 2 000 of every verb, 100 000 with `-m nightly`.

Hidden Markov models are solved by listing all paths of states, linear ones as one Gaussian vector. Models have zeros,
closed classes and entries down to the smallest number of the precision; tokens and numbers are missing at random.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from path_oracles import WIDE, random_arrays

import steerax as sx
from steerax.inference.hmm.kernels.counts import expected_counts

CHUNK, MANY = 2_000, 100_000
T, D, V = 5, 3, 3
PATHS = np.stack(np.meshgrid(*[np.arange(D)] * (T + 2), indexing="ij"), -1).reshape(-1, T + 2)  # X_0 … X_{T+1}


def chains(rng, number, dtype):
    """Arrays `[N d]`, `[N d d]`, `[N d V]` and tokens `[N T]` that are possible."""
    mu, A, C = random_arrays(rng, number, D, V, dtype)
    z = rng.integers(-1, V, (number, T))
    weights = weights_of(mu, A, C, z)
    return mu, A, C, np.where((weights.sum(1) > 0)[:, None], z, -1)


def weights_of(mu, A, C, z, upto=T):
    """p(path, first `upto` tokens) of every model and path, `[N paths]`."""
    mu, A, C = (a.astype(WIDE) for a in (mu, A, C))
    p = mu[:, PATHS[:, 0]]
    for t in range(T + 1):
        if t < upto:
            p = p * np.where(
                z[:, t, None] < 0,
                1,
                np.take_along_axis(C[:, PATHS[:, t]], np.maximum(z[:, t], 0)[:, None, None], 2)[..., 0],
            )
        p = p * A[:, PATHS[:, t], PATHS[:, t + 1]]
    return p


def states_of(weights, t):
    """The distribution of X_t, `[N d]`."""
    total = np.stack([weights[:, PATHS[:, t] == x].sum(1) for x in range(D)], -1)
    return total / total.sum(-1, keepdims=True)


def enumerated(mu, A, C, z):
    """What every verb should return."""
    prefix = [weights_of(mu, A, C, z, t) for t in range(T + 1)]
    mass = np.stack([w.sum(1) for w in prefix], 1)
    predicted = np.stack([states_of(prefix[t], t) for t in range(T + 1)], 1)
    whole = prefix[T]
    counts = np.stack(
        [
            [whole[:, (PATHS[:, t] == a) & (PATHS[:, t + 1] == b)].sum(1) for a in range(D) for b in range(D)]
            for t in range(T - 1)
        ]
    )
    return {
        "filter": predicted,
        "filtered": np.stack([states_of(prefix[t + 1], t) for t in range(T)], 1),
        "log_likelihoods": np.log(mass[:, 1:] / mass[:, :-1]),
        "smooth": np.stack([states_of(whole, t) for t in range(T)], 1),
        "forecast": np.stack([states_of(whole, T), states_of(whole, T + 1)], 1),
        "explain": predicted[:, T],
        "dual_filter": predicted,
        "layers": predicted,
        "counts": (counts.sum(0) / whole.sum(1)).T,
        "most_likely_states": np.log(
            np.stack([whole[:, (PATHS[:, :T] == p).all(1)].sum(1) for p in np.unique(PATHS[:, :T], axis=0)], 1).max(1)
        ),
    }


def computed(mu, A, C, z):
    """The same by the public verbs, one model."""
    model = sx.HiddenMarkovModel(mu, A, C)
    found, explained, ahead = (
        sx.filter(model, z),
        sx.explain(model, z, target="state", method="control"),
        sx.forecast(model, z, 2),
    )
    counted = expected_counts(mu, A, C, z[:, None] + 1, jnp.array([T]), 1, T)
    balanced = explained.result == sx.RESULTS.successful
    return {
        "filter": found.predicted,
        "filtered": found.filtered,
        "log_likelihoods": found.log_likelihoods,
        "smooth": sx.smooth(model, z).smoothed,
        "forecast": ahead.states,
        "explain": jnp.where(balanced, explained.prior[0] + explained.weights.sum((0, 1)), jnp.nan),
        "dual_filter": sx.dual_filter(model, z).predicted,
        "layers": sx.dual_filter(model, z, initial="prior", layers=T + 1).predicted,
        "counts": jnp.where(counted.doubtful, jnp.nan, counted.transition.reshape(-1)),
        "most_likely_states": _log_probability(mu, A, C, z, sx.most_likely_states(model, z)),
    }


def _log_probability(mu, A, C, z, x):
    """Of a path with its tokens."""
    emitted = jnp.where(z < 0, 0, jnp.log(C[x, jnp.maximum(z, 0)]))
    return jnp.log(mu[x[0]]) + jnp.log(A[x[:-1], x[1:]]).sum() + emitted.sum()


def check_chains(dtype, number):
    verbs = jax.jit(jax.vmap(computed))
    room = 3e-5 if dtype == np.float32 else 1e-12
    for seed in range(number // CHUNK):
        arrays = chains(np.random.default_rng([seed, dtype().itemsize]), CHUNK, dtype)
        found, exact = verbs(*(jnp.asarray(a) for a in arrays)), enumerated(*arrays)
        for name, values in found.items():
            values, right = np.asarray(values, float), exact[name].astype(float)
            if name in ("counts", "explain"):  # NaN stands where a result says that it is not sure
                sure = np.isfinite(values).all(1)
                assert sure.mean() > 0.8
                values, right = values[sure], right[sure]
            wide = 100 if name in ("layers", "dual_filter", "explain") else 1
            np.testing.assert_allclose(
                values, right, rtol=wide * room, atol=wide * room, err_msg=f"{name}, seed {seed}"
            )


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [CHUNK, pytest.param(MANY, marks=pytest.mark.nightly)])
@pytest.mark.timeout(7200)
def test_chains_agree_with_all_their_paths(dtype, number):
    check_chains(dtype, number)


# ---- linear-Gaussian models ---------------------------------------------------------------------------------------------

S, P, L = 2, 2, 5  # states, channels, times


def models(rng, number, order, dtype):
    """Arrays of stable and unstable models, some without noise in a direction or at all or with a zero row, and series with
    gaps."""

    def square(n, singular=False):
        a = rng.normal(size=(number, n, n)) * 10.0 ** rng.integers(-2, 2, (number, 1, 1))
        a[:, :, 0] *= (rng.random(number) > 0.3 * singular)[:, None]
        return a @ a.transpose(0, 2, 1)

    A = rng.normal(size=(number, order, S, S)) * rng.choice([0.3, 0.6, 1.0], (number, 1, 1, 1)) / order
    H = rng.normal(size=(number, P, S)) * (rng.random((number, P, 1)) > 0.1)
    Q = square(S, True) * (rng.random((number, 1, 1)) > 0.1)
    y = np.where(rng.random((number, L, P)) < 0.2, np.nan, 3 * rng.normal(size=(number, L, P)))
    arrays = rng.normal(size=(number, S)), square(S, True), A, H, Q, square(P) + 1e-2 * np.eye(P), y
    return tuple(a.astype(dtype) for a in arrays)


def shaken(rng, m, P0, A, H, Q, R, y):
    """The same models with every number rounded otherwise: what they answer differently, nothing can answer better."""

    def other(a, symmetric=False):
        steps = rng.normal(size=a.shape) * np.finfo(a.dtype).eps
        return a.astype(WIDE) * (1 + (steps + steps.swapaxes(-1, -2) if symmetric else steps))

    return other(m), other(P0, True), other(A), other(H), other(Q, True), other(R, True), y


def gaussian(m, P0, A, H, Q, R, y):
    """Means and covariances of X_t given the numbers before, up to and after t, `[N times …]`, and log-likelihoods."""
    m, P0, A, H, Q, R = (a.astype(WIDE) for a in (m, P0, A, H, Q, R))
    N, means, blocks = len(m), [m], {(0, 0): P0}
    cov = lambda s, t: blocks[s, t] if s <= t else blocks[t, s].transpose(0, 2, 1)
    for t in range(L):
        lags = range(min(A.shape[1], t + 1))
        means.append(sum(np.einsum("nij,nj->ni", A[:, k], means[t - k]) for k in lags))
        for s in range(t + 1):
            blocks[s, t + 1] = sum(cov(s, t - k) @ A[:, k].transpose(0, 2, 1) for k in lags)
        blocks[t + 1, t + 1] = sum(A[:, k] @ cov(t - k, t + 1) for k in lags) + Q
    Z_mean = np.concatenate([np.einsum("nij,nj->ni", H, means[t]) for t in range(L)], 1)
    HT = H.transpose(0, 2, 1)
    Z = np.block([[H @ cov(s, t) @ HT + (R if s == t else 0) for t in range(L)] for s in range(L)])
    flat, found = y.reshape(N, -1), {}

    def given(t, upto):
        """X_t given the numbers before time `upto`: missing ones become independent noise with residual 0."""
        seen = np.isfinite(flat) & (np.arange(L * P) < upto * P)
        K = np.where(seen[:, :, None] & seen[:, None, :], Z, 0) + np.eye(L * P) * ~seen[:, :, None]
        cross = np.concatenate([cov(t, s) @ HT for s in range(L)], 2) * seen[:, None, :]
        low = _cholesky(K)
        left = _solve(low, np.concatenate([np.where(seen, flat - Z_mean, 0)[:, :, None], cross.transpose(0, 2, 1)], 2))
        r, c = left[:, :, :1], left[:, :, 1:]
        logs = -0.5 * (
            (r**2).sum((1, 2)) + 2 * np.log(np.einsum("nii->ni", low)).sum(1) + seen.sum(1) * np.log(2 * WIDE(np.pi))
        )
        return means[t] + (c.transpose(0, 2, 1) @ r)[:, :, 0], cov(t, t) - c.transpose(0, 2, 1) @ c, logs

    before, after, whole = ([given(t, u) for t, u in pairs] for pairs in (
        [(t, t) for t in range(L + 1)], [(t, t + 1) for t in range(L)], [(t, L) for t in range(L)]))  # fmt: skip
    for name, rows in (("predicted", before), ("filtered", after), ("smooth", whole)):
        found[f"{name} mean"], found[f"{name} covariance"] = (np.stack([row[i] for row in rows], 1) for i in (0, 1))
    return found | {"dual_filter mean": found["predicted mean"], "log-likelihood": before[-1][2], "forecast": np.einsum("nij,nj->ni", H, before[-1][0]),
                    "explain": np.einsum("nij,nj->ni", H, before[-1][0])}  # fmt: skip


def _cholesky(K):
    low = np.zeros_like(K)
    for j in range(K.shape[1]):
        low[:, j, j] = np.sqrt(K[:, j, j] - (low[:, j, :j] ** 2).sum(1))
        for i in range(j + 1, K.shape[1]):
            low[:, i, j] = (K[:, i, j] - (low[:, i, :j] * low[:, j, :j]).sum(1)) / low[:, j, j]
    return low


def _solve(low, b):
    x = np.zeros_like(b)
    for i in range(b.shape[1]):
        x[:, i] = (b[:, i] - np.einsum("nj,njk->nk", low[:, i, :i], x[:, :i])) / low[:, i, i, None]
    return x


OF_SERIES = {
    "predicted mean": lambda model, y: sx.filter(model, y).predicted.mean,
    "predicted covariance": lambda model, y: sx.filter(model, y).predicted.covariance,
    "filtered mean": lambda model, y: sx.filter(model, y).filtered.mean,
    "filtered covariance": lambda model, y: sx.filter(model, y).filtered.covariance,
    "smooth mean": lambda model, y: sx.smooth(model, y).smoothed.mean,
    "smooth covariance": lambda model, y: sx.smooth(model, y).smoothed.covariance,
    "dual_filter mean": lambda model, y: sx.dual_filter(model, y, "all").predicted.mean,
    "log-likelihood": lambda model, y: sx.filter(model, y).log_likelihood,
    "forecast": lambda model, y: sx.forecast(model, y, 1).mean[0],
    "explain": lambda model, y: (lambda e: e.prior + e.weights.sum(1))(sx.explain(model, y, method="control")),
}


@pytest.mark.parametrize(
    ("order", "dtype"),
    [(1, np.float64), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, np.float64), (1, np.float32)))],
)
@pytest.mark.parametrize("number", [CHUNK, pytest.param(MANY, marks=pytest.mark.nightly)])
@pytest.mark.timeout(7200)
def test_linear_models_agree_with_one_gaussian_vector(number, order, dtype):
    """All verbs in one program, so that a factorisation that waits for another would never end. Ill-conditioned models may
    be as wrong as fifty roundings of their own numbers make them."""
    one = lambda *a: {name: f(sx.LinearGaussianModel(*a[:-1]), a[-1]) for name, f in OF_SERIES.items()}
    verbs, room = jax.jit(jax.vmap(one)), 1e-10 if dtype == np.float64 else 1e-2
    for seed in range(number // CHUNK):
        rng = np.random.default_rng([seed, order])
        arrays = models(rng, CHUNK, order, dtype)
        exact, found = gaussian(*arrays), verbs(*(jnp.asarray(a) for a in arrays))
        others = [gaussian(*shaken(rng, *arrays)) for _ in range(3)]
        for name, values in found.items():
            right = exact[name].astype(float).reshape(CHUNK, -1)
            worst = lambda a, right=right: np.abs(np.asarray(a, float).reshape(right.shape) - right).max(1)
            sensitivity = np.max([worst(other[name]) for other in others], 0)
            excess = (worst(values) - 50 * sensitivity) / (1 + np.abs(right).max(1))
            assert excess.max() < room, (name, seed, excess.argmax(), excess.max())
