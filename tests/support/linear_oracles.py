"""Slow, obviously right twins: conditioning of one big Gaussian vector, and filters in extended precision."""

from fractions import Fraction

import numpy as np

from steerax.models.linear_gaussian import LinearGaussianModel, TimeVaryingLinearGaussianModel


def numpy_arrays(model):
    return [
        np.asarray(a)
        for a in (
            model.initial_mean,
            model.initial_covariance,
            model.transition,
            model.observation,
            model.process_noise,
            model.observation_noise,
        )
    ]


def operator(model, T):
    """A_{t,s}, [T T d d]."""
    A = np.asarray(model.transition)
    if A.ndim == 4:
        return A[:T, :T]
    out = np.zeros((T, T, *A.shape[1:]))
    for t in range(T):
        for s in range(max(0, t - len(A) + 1), t + 1):
            out[t, s] = A[t - s]
    return out


def joint_distribution(model, T):
    """Mean and covariance of (X_0..X_T) and of (Z_0..Z_{T-1}), and the cross-covariance, all dense."""
    m0, S0, _, H, Q, R = numpy_arrays(model)
    A, d = operator(model, T), len(m0)
    N = (T + 1) * d
    strict = np.zeros((T + 1, T + 1, d, d))
    strict[1:, :T] = A
    M = np.eye(N) - strict.transpose(0, 2, 1, 3).reshape(N, N)
    D = np.kron(np.eye(T + 1), Q)
    D[:d, :d] = S0
    G = np.linalg.inv(M)
    cov_X = G @ D @ G.T
    mean_X = G[:, :d] @ m0
    Hb = np.kron(np.eye(T + 1)[:T], H)
    return mean_X, cov_X, Hb @ mean_X, Hb @ cov_X @ Hb.T + np.kron(np.eye(T), R), cov_X @ Hb.T


def condition(model, observations, time):
    """Distribution of X_time given the finite entries of `observations` [T p], by dense conditioning."""
    T = max(len(observations), time)
    z = np.full((T, observations.shape[1]), np.nan)
    z[: len(observations)] = observations - np.asarray(model.observation_offset)
    mean_X, cov_X, mean_Z, cov_Z, cross = joint_distribution(model, T)
    d = len(np.asarray(model.initial_mean))
    keep = np.isfinite(z.reshape(-1))
    rows = slice(time * d, (time + 1) * d)
    gain = np.linalg.solve(cov_Z[np.ix_(keep, keep)], cross[rows][:, keep].T).T
    mean = mean_X[rows] + gain @ (z.reshape(-1)[keep] - mean_Z[keep])
    return mean, cov_X[rows, rows] - gain @ cross[rows][:, keep].T


def log_likelihood(model, observations):
    z = observations - np.asarray(model.observation_offset)
    _, _, mean_Z, cov_Z, _ = joint_distribution(model, len(z))
    keep = np.isfinite(z.reshape(-1))
    e, S = (z.reshape(-1) - mean_Z)[keep], cov_Z[np.ix_(keep, keep)]
    return -0.5 * (e @ np.linalg.solve(S, e) + np.linalg.slogdet(S)[1] + len(e) * np.log(2 * np.pi))


def extended_kalman(model, observations):
    """Predictive mean and covariance of X_T by the growing-state Kalman filter in long double."""
    m0, S0, _, H, Q, R = (a.astype(np.longdouble) for a in numpy_arrays(model))
    T, (p, d) = len(observations), H.shape
    A = operator(model, T).astype(np.longdouble)
    N = (T + 1) * d
    P, x = np.zeros((N, N), np.longdouble), np.zeros(N, np.longdouble)
    P[:d, :d], x[:d] = S0, m0
    z = observations.astype(np.longdouble) - np.asarray(model.observation_offset)
    for t in range(T):
        n, here = (t + 1) * d, slice(t * d, (t + 1) * d)
        for c in range(p):  # one channel at a time, after whitening R
            if np.isnan(z[t, c]):
                continue
            assert np.allclose(R, np.diag(np.diag(R)))
            h = P[:n, here] @ H[c]
            S = H[c] @ h[here] + R[c, c]
            K = h / S
            x[:n] += K * (z[t, c] - H[c] @ x[here])
            J = np.eye(n, dtype=np.longdouble)
            J[:, here] -= np.outer(K, H[c])
            P[:n, :n] = J @ P[:n, :n] @ J.T + R[c, c] * np.outer(K, K)
        row = np.concatenate(list(A[t, : t + 1]), axis=1)
        new = slice(n, n + d)
        P[new, :n] = row @ P[:n, :n]
        P[:n, new] = P[new, :n].T
        P[new, new] = P[new, :n] @ row.T + Q
        x[new] = row @ x[:n]
    return np.asarray(x[-d:], float), np.asarray(P[-d:, -d:], float)


def random_model(seed, d=2, p=1, order=1, radius=0.9, offset=False):
    """A random model whose taps are scaled to a given spectral radius."""
    rng = np.random.default_rng(seed)
    taps = rng.normal(size=(order, d, d)) / np.arange(1, order + 1)[:, None, None]
    taps = with_radius(taps, radius)
    S = rng.normal(size=(d, d))
    R = np.diag(rng.uniform(0.3, 1.0, p))
    mean = rng.normal(size=d)
    H = rng.normal(size=(p, d))
    c = rng.normal(size=p) if offset else None
    return LinearGaussianModel(mean, S @ S.T / d + 0.1 * np.eye(d), taps, H, 0.3 * np.eye(d), R, c)


def spectral_radius(taps):
    m, d, _ = taps.shape
    F = np.zeros((m * d, m * d))
    F[:d] = np.concatenate(list(taps), 1)
    F[d:, :-d] = np.eye((m - 1) * d)
    return np.abs(np.linalg.eigvals(F)).max()


def with_radius(taps, radius):
    """A^(j) c^{j+1} has all roots multiplied by c."""
    c = radius / spectral_radius(taps)
    return taps * c ** np.arange(1, len(taps) + 1)[:, None, None]


def random_operator(seed, T, d=2, p=1):
    rng = np.random.default_rng(seed)
    lag = np.subtract.outer(np.arange(T), np.arange(T))
    weight = np.where(lag >= 0, (1.0 + np.abs(lag)) ** -1.5, 0.0)
    A = rng.normal(size=(T, T, d, d)) * 0.35 * weight[:, :, None, None]
    return TimeVaryingLinearGaussianModel(
        rng.normal(size=d), np.eye(d), A, rng.normal(size=(p, d)), 0.3 * np.eye(d), 0.5 * np.eye(p)
    )


def exact_smoother(model, observations):
    """Means [T d] and covariances [T d d] of the states given all finite observations [T p], in rational arithmetic."""
    exact = lambda a: np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(np.asarray(a))
    m0, S0, _, H, Q, R = (exact(a) for a in numpy_arrays(model))
    T, d = len(observations), len(m0)
    A, noise = exact(operator(model, T)), exact(np.zeros((T * d, T * d)))
    paths = exact(np.zeros((T * d, T * d)))  # states as functions of the start and the disturbances
    for t in range(T):
        here = slice(t * d, (t + 1) * d)
        paths[here, here], noise[here, here] = exact(np.eye(d)), Q if t else S0
        for s in range(t):
            paths[here] += A[t - 1, s] @ paths[s * d : (s + 1) * d]
    cov_X, mean_X = paths @ noise @ paths.T, paths[:, :d] @ m0
    blocks = exact(np.eye(T))
    seen = np.isfinite(observations).reshape(-1)
    to_Z = np.kron(blocks, H)[seen]
    z = (exact(np.nan_to_num(observations)) - exact(model.observation_offset)).reshape(-1)[seen]
    S = to_Z @ cov_X @ to_Z.T + np.kron(blocks, R)[np.ix_(seen, seen)]
    M = np.concatenate([S, to_Z @ cov_X, (z - to_Z @ mean_X)[:, None]], axis=1)
    for i in range(len(M)):  # Gauss–Jordan
        M[i] = M[i] / M[i, i]
        for j in range(len(M)):
            if j != i and M[j, i] != 0:
                M[j] = M[j] - M[j, i] * M[i]
    right = M[:, len(M) :]
    mean = (mean_X + cov_X @ to_Z.T @ right[:, -1]).astype(float).reshape(T, d)
    covariance = (cov_X - cov_X @ to_Z.T @ right[:, :-1]).astype(float)
    return mean, np.stack([covariance[t * d : (t + 1) * d, t * d : (t + 1) * d] for t in range(T)])
