"""Emissions of numbers at random, with their densities by SciPy, and chains of them solved by listing all paths."""

import itertools

import numpy as np
from scipy import stats

import steerax as sx

E = sx.emissions
WIDE = np.longdouble
NAMES = ("full", "tied", "diagonal", "spherical", "student", "poisson", "negative", "categorical", "mixture", "product")


def matrices(rng, d, p):
    """Random covariances `[d p p]`."""
    root = rng.normal(size=(d, p, p + 2))
    return root @ root.swapaxes(1, 2) / p


def random_emission(name, rng, d, spread=2.0):
    """`(emission, density)`, where `density(x, z)` is the log-density of an observation in state `x`, by SciPy."""
    p, m = 2, spread * rng.normal(size=(d, 2))
    S = matrices(rng, d, p)
    if name in ("full", "tied", "diagonal", "spherical"):
        S = {
            "full": S,
            "tied": np.repeat(S[:1], d, 0),
            "diagonal": S * np.eye(p),
            "spherical": S[:, :1, :1] * np.eye(p),
        }[name]
        return E.Gaussian(m, S, name), lambda x, z: _seen(stats.multivariate_normal, z, m[x], S[x])
    if name == "student":
        nu = rng.uniform(0.7, 20, d)
        density = lambda x, z: _seen(stats.multivariate_t, z, m[x], S[x], df=nu[x])
        return E.StudentT(m, S, nu), density
    if name == "poisson":
        rate = rng.exponential(3, (d, p))
        return E.Poisson(rate), lambda x, z: _sum(stats.poisson.logpmf, z, rate[x])
    if name == "negative":
        mean, r = rng.exponential(5, (d, p)), rng.exponential(2, (d, p)) + 0.1
        return E.NegativeBinomial(mean, r), lambda x, z: _sum(stats.nbinom.logpmf, z, r[x], r[x] / (r[x] + mean[x]))
    if name == "categorical":
        P = rng.dirichlet(np.ones(4), d)
        return E.Product([E.Categorical(P)]), lambda x, z: 0.0 if np.isnan(z[0]) else np.log(P[x, int(z[0])])
    if name == "mixture":
        inner, density = random_emission("student", rng, 2 * d, spread)
        w = rng.dirichlet(np.ones(2), d)
        both = lambda x, z: np.logaddexp(*(np.log(w[x, k]) + density(2 * x + k, z) for k in range(2)))
        return E.Mixture(w, inner), both
    first, one = random_emission("categorical", rng, d)
    second, two = random_emission("poisson", rng, d)
    third, three = random_emission("full", rng, d, spread)
    together = lambda x, z: one(x, z[:1]) + two(x, z[1:3]) + three(x, z[3:])
    return E.Product([*first.parts, second, third]), together


def _seen(family, z, m, S, **options):
    o = ~np.isnan(z)
    return family.logpdf(z[o], m[o], S[np.ix_(o, o)], **options) if o.any() else 0.0


def _sum(mass, z, *parameters):
    o = ~np.isnan(z)
    return float(sum(mass(z[c], *(q[c] for q in parameters)) for c in np.flatnonzero(o)))


def autoregressive(rng, d, lags, p, structure="full", size=0.5):
    """A random vector autoregression in each state, stable by itself and so when it switches."""
    B = rng.normal(size=(d, lags, p, p))
    B *= size / (np.abs(B).sum((1, 3)).max(-1)[:, None, None, None])
    S = matrices(rng, d, p)
    S = {
        "full": S,
        "tied": np.repeat(S[:1], d, 0),
        "diagonal": S * np.eye(p),
        "spherical": S[:, :1, :1] * np.eye(p),
    }[structure]
    return E.Autoregressive(rng.normal(size=(d, p)), B, S, structure)


def windows_of(z, lags):
    """Each observation followed by those before it, NaN before the start."""
    padded = np.concatenate([np.full((lags, z.shape[1]), np.nan), z])
    return np.stack([padded[t : t + lags + 1][::-1].ravel() for t in range(len(z))])


def log_densities_after(emission, z):
    """`[T d]` by SciPy, zero where an observation or one of those it reads is missing."""
    c, B, S = (np.asarray(a) for a in (emission.intercept, emission.coefficients, emission.covariance))
    found = np.zeros((len(z), len(c)))
    for t in range(B.shape[1], len(z)):
        past = z[t - B.shape[1] : t][::-1]
        if np.isfinite(z[t]).all() and np.isfinite(past).all():
            means = c + np.einsum("dlpq,lq->dp", B, past)
            found[t] = [stats.multivariate_normal.logpdf(z[t], means[x], S[x]) for x in range(len(c))]
    return found


def with_gaps(rng, z, share=0.2):
    """Some channels missing."""
    return np.where(rng.random(z.shape) < share, np.nan, z)


class Enumerated:
    """A chain of numbers along one series, from the joint densities of all paths in extended precision."""

    def __init__(self, mu, A, log_l, steps=0):
        """`log_l` `[T d]`; `steps` more without observations."""
        T, d = log_l.shape
        self.paths = np.array(list(itertools.product(range(d), repeat=T + 1 + steps)))
        with np.errstate(divide="ignore"):
            log_mu, log_A = np.log(np.asarray(mu, WIDE)), np.log(np.asarray(A, WIDE))
        moves = log_A[self.paths[:, :-1], self.paths[:, 1:]].sum(1) + log_mu[self.paths[:, 0]]
        seen = np.asarray(log_l, WIDE)[np.arange(T), self.paths[:, :T]]
        self.T, self.d, self.prefix = (
            T,
            d,
            moves[:, None] + np.concatenate([np.zeros((len(seen), 1)), seen.cumsum(1)], 1),
        )

    def log_mass(self, t):
        """Log-density of the first `t` observations."""
        return _log_sum(self.prefix[:, t])

    def state(self, at, given):
        """The distribution of $X_{at}$ given the first `given` observations."""
        w = np.exp(self.prefix[:, given] - self.prefix[:, given].max())
        return np.array([w[self.paths[:, at] == x].sum() for x in range(self.d)]) / w.sum()

    def pairs(self):
        """Expected counts of transitions between observed times."""
        w = np.exp(self.prefix[:, self.T] - self.prefix[:, self.T].max())
        count = np.zeros((self.d, self.d), WIDE)
        for t in range(self.T - 1):
            np.add.at(count, (self.paths[:, t], self.paths[:, t + 1]), w / w.sum())
        return count

    def log_best(self):
        """Log-density of the likeliest path of the observed times."""
        reached = {}
        for path, value in zip(map(tuple, self.paths[:, : self.T]), self.prefix[:, self.T], strict=True):
            reached[path] = np.logaddexp(reached.get(path, -np.inf), value)
        return max(reached.values())


def _log_sum(x):
    top = x.max()
    return top + np.log(np.exp(x - top).sum())
