"""Hidden Markov models solved by listing all paths of their states, many at once and in extended precision."""

import numpy as np

WIDE = np.longdouble


def random_rows(rng, number, *shape, dtype=np.float64):
    """Distributions `[N … n]`: even and uneven ones, with zeros, with entries down to the smallest normal number."""
    p = rng.dirichlet(np.full(shape[-1], rng.choice([0.1, 1.0, 10.0])), (number, *shape[:-1]))
    zero = rng.random(p.shape) < 0.3 * (rng.random((number, *(1,) * len(shape))) < 0.5)
    tiny = rng.random(p.shape) < 0.3 * (rng.random((number, *(1,) * len(shape))) < 0.3)
    least = np.log10(float(np.finfo(dtype).tiny))
    p = np.where(zero, 0, np.where(tiny, 10.0 ** rng.uniform(0.4 * least, -1, p.shape), p))
    p[..., 0] += p.sum(-1) == 0
    p = (p / p.sum(-1, keepdims=True)).astype(dtype)
    return np.where(p < np.finfo(dtype).tiny, 0, p)  # what models take smaller ones for


def random_arrays(rng, number, d, V, dtype=np.float64):
    """Arrays `[N d]`, `[N d d]`, `[N d V]`."""
    return tuple(random_rows(rng, number, *shape, dtype=dtype) for shape in ((d,), (d, d), (d, V)))


class Paths:
    """p(path, tokens) of `N` models with `B` sequences `[N B T]` each, `[N B paths]`, one token after the other.

    Where `lengths` `[N B]` end a sequence its paths stay in state 0, so that each is counted once. A token that no path
    emits is stepped over. Attributes: `log_q` `[N B T]`, −∞ there; `weights`, after all tokens.
    """

    def __init__(self, arrays, z, lengths=None):
        mu, A, C = (a.astype(WIDE) for a in arrays)
        (N, B, T), d = z.shape, mu.shape[-1]
        self.arrays, self.z = (mu, A, C), z
        self.lengths = np.full((N, B), T) if lengths is None else lengths
        self.inside = np.arange(T) < self.lengths[:, :, None]
        self.paths = np.stack(np.meshgrid(*[np.arange(d)] * T, indexing="ij"), -1).reshape(-1, T)
        self.weights, self.log_q = np.ones((N, B, len(self.paths)), WIDE), np.zeros((N, B, T), WIDE)
        before = np.ones((N, B), WIDE)
        for t, x in enumerate(self.paths.T):
            move = mu[:, x] if t == 0 else A[:, self.paths[:, t - 1], x]
            p = self.weights * np.where(self.inside[:, :, t, None], move[:, None], x == 0)
            seen = self.inside[:, :, t] & (z[:, :, t] >= 0)
            models = np.arange(N)[:, None, None]
            emitted = p * C[models, x, np.where(seen, z[:, :, t], 0)[:, :, None]]
            now, after = self.mass(p, t), self.mass(emitted, t)
            before = np.where(seen, now, before)
            with np.errstate(divide="ignore"):
                self.log_q[:, :, t] = np.where(seen, np.log(after / now), 0)
            self.weights = np.where((seen & (after > 0))[:, :, None], emitted, p)

    def mass(self, p, t):
        """The sum over all paths of the first `t + 1` states, `[N B]`."""
        return p[:, :, (self.paths[:, t + 1 :] == 0).all(1)].sum(-1)

    @property
    def scored(self):
        return self.inside & (self.z >= 0)

    def next_token(self):
        """The distribution of the token after the last one, `[N B V]`."""
        _, A, C = self.arrays
        d, last = C.shape[1], self.paths[:, -1]
        belief = np.stack([self.weights[:, :, last == x].sum(-1) for x in range(d)], -1)
        p = belief @ A @ C
        return p / belief.sum(-1, keepdims=True)

    def expected_counts(self):
        """Of starts `[N d]`, transitions `[N d d]` and emissions `[N d V]`, over all sequences."""
        mu, A, C = (np.zeros_like(a) for a in self.arrays)
        share = self.weights / self.weights.sum(-1, keepdims=True)
        for t in range(self.z.shape[-1]):
            here, x = self.inside[:, :, t], self.paths[:, t]
            there = (share * here[:, :, None]).sum(1)  # [N paths]
            for i in range(mu.shape[-1]):
                if t == 0:
                    mu[:, i] += there[:, x == i].sum(-1)
                else:
                    for j in range(mu.shape[-1]):
                        A[:, i, j] += there[:, (self.paths[:, t - 1] == i) & (x == j)].sum(-1)
                for v in range(C.shape[-1]):
                    with_v = (share * (here & (self.z[:, :, t] == v))[:, :, None]).sum(1)
                    C[:, i, v] += with_v[:, x == i].sum(-1)
        return mu, A, C
