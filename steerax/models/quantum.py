r"""Processes that no hidden chain of their dimension generates: repeated measurements of a quantum system, and beyond.

A quantum instrument with Kraus operators $K_z$, $\sum_zK_z^\dagger K_z=1$, turns a density matrix $\rho$ into $K_z\rho K_z^\dagger$ with probability
$\mathrm{tr}(K_z\rho K_z^\dagger)$. In real coordinates of Hermitian matrices, $\rho=\sum_k p_kB_k$ with an orthonormal basis $B_k$, this is a
generalised hidden Markov model with $w_k=\mathrm{tr}B_k$ [NielsenChuang2000, RiechersElliottShai2025].
"""

from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from .._bounds import COUNT, POSITIVE, SHARE, Range, bounded
from .._errors import ConfigurationError, DataError
from ..maths.keys import generator
from .generalised import GeneralisedHMM


def instrument(kraus: Any, density: Any = None) -> GeneralisedHMM:
    r"""The process of outcomes of a repeated measurement.

    **Arguments:** `kraus`: $K_z$, `V` complex matrices `[n n]` with $\sum_zK_z^\dagger K_z=1$; `density`: the density matrix at the
    start (the stationary one by default).

    The belief has $n^2$ real coordinates, see `density_matrices`.

    **Raises:** `DataError` for operators that do not add up to one, or a start that is not a density matrix.
    """
    K = np.asarray(kraus, np.complex128)
    if K.ndim != 3 or K.shape[1] != K.shape[2] or 0 in K.shape:
        raise DataError(f"Kraus operators are square matrices of one size, [V n n], but their shape is {K.shape}.")
    n = K.shape[1]
    excess = np.einsum("zji,zjk->ik", K.conj(), K) - np.eye(n)
    if not np.abs(excess).max() < 1e-9:
        raise DataError(f"The Kraus operators do not add up to one: sum K^† K differs by {np.abs(excess).max():.3g}.")
    B = hermitian_basis(n)
    operators = np.einsum("zij,ajk,zlk,bli->zab", K, B, K.conj(), B).real
    initial = None
    if density is not None:
        rho = np.asarray(density, np.complex128)
        if rho.shape != (n, n) or np.abs(rho - rho.conj().T).max() > 1e-9 or np.linalg.eigvalsh(rho)[0] < -1e-9:
            raise DataError(f"`density` is a non-negative Hermitian matrix [{n} {n}] of trace one.")
        initial = np.einsum("aij,ji->a", B, rho).real
    return GeneralisedHMM(initial, operators, evaluation=np.einsum("aii->a", B).real)


def hermitian_basis(n: int) -> Complex[np.ndarray, "n2 n n"]:
    r"""An orthonormal basis of Hermitian matrices, $\mathrm{tr}(B_jB_k)=\delta_{jk}$; for a qubit $1,\sigma_x,\sigma_y,\sigma_z$ over $\sqrt2$."""
    out = [np.eye(n, dtype=complex) / np.sqrt(n)]
    for i in range(n):
        for j in range(i + 1, n):
            E = np.zeros((n, n), complex)
            E[i, j] = 1
            out += [(E + E.T) / np.sqrt(2), 1j * (E.T - E) / np.sqrt(2)]
    for k in range(1, n):
        diagonal = np.append(np.ones(k), -k) / np.sqrt(k * (k + 1))
        out.append(np.diag(np.append(diagonal, np.zeros(n - k - 1))).astype(complex))
    return np.stack(out)


@bounded(n_levels=COUNT, n_tokens=COUNT)
def random_quantum(key, n_levels: int = 2, n_tokens: int = 3) -> GeneralisedHMM:
    """A measurement drawn at random: an isometry (uniform under the unitary group) cut into one block per outcome."""
    rng = generator(key)
    shape = n_levels * n_tokens, n_levels
    Q, R = np.linalg.qr(rng.normal(size=shape) + 1j * rng.normal(size=shape))
    isometry = Q * (np.diag(R) / np.abs(np.diag(R)))
    return instrument(isometry.reshape(n_tokens, n_levels, n_levels))


@bounded(alpha=POSITIVE, beta=POSITIVE)
def tom_quantum(alpha: float = 1.0, beta: float = 7.141428428542850) -> GeneralisedHMM:
    r"""The Bloch walk: four outcomes on one qubit, beliefs that fill a disc; three real numbers that no finite chain replaces.

    $K=(\alpha1\pm\beta\sigma_x)/2\sqrt{\alpha^2+\beta^2}$ and the same with $\sigma_z$ [RiechersElliottShai2025]. The belief is
    $(1,x,z)$ of the Bloch vector, so that $w=(1,0,0)$; the defaults are $\alpha=1$, $\beta=\sqrt{51}$.
    """
    scale = 1 / (4 * (alpha**2 + beta**2))
    m, o = (alpha**2 - beta**2) * scale, 2 * alpha * beta * scale
    along_z = [[[0.25, 0, s * o], [0, m, 0], [s * o, 0, 0.25]] for s in (1, -1)]
    along_x = [[[0.25, s * o, 0], [s * o, 0.25, 0], [0, 0, m]] for s in (1, -1)]
    return GeneralisedHMM(None, [*along_z, *along_x], evaluation=[1.0, 0, 0])


@bounded(alpha=Range(-1e9, 1e9), decay=SHARE)
def fanizza(alpha: float = 2000.0, decay: float = 0.49) -> GeneralisedHMM:
    r"""A process with four real dimensions that is no hidden Markov model of finite size [FanizzaLumbrerasWinter2024].

    Token 0 resets the belief; token 1 turns a plane by the angle $\alpha$ and shrinks it by $\lambda$ (`decay`).
    """
    c, s, lam = np.cos(alpha), np.sin(alpha), decay
    square = 1 - 2 * lam * c + lam**2
    a, b = (1 - lam * c + lam * s) / square, (1 - lam * c - lam * s) / square
    start = np.array([1 - (2 / (1 - lam) - a - b) / 4, 1 / (2 * (1 - lam)), -a / 4, -b / 4])
    leave = np.array([1, 1 - lam, 1 + lam * (s - c), 1 - lam * (s + c)])
    turn = lam * np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, c, -s], [0, 0, s, c]])
    return GeneralisedHMM(None, [np.outer(leave, start), turn])


@bounded(log_alpha=POSITIVE, beta=SHARE)
def post_quantum(log_alpha: float = 1.0, beta: float = 0.5) -> GeneralisedHMM:
    r"""A process of three real dimensions that no quantum system of any finite size generates [RiechersElliottShai2025].

    Needs $\alpha=e^{\log\alpha}>1>\beta>0$, $\alpha+\beta\ne2$ and $\ln\alpha/\ln\beta$ irrational (that last is not checked).

    **Raises:** `ConfigurationError` for $\alpha+\beta=2$.
    """
    if abs(np.exp(log_alpha) + beta - 2) < 1e-9:
        raise ConfigurationError(f"post_quantum needs alpha + beta ≠ 2, but log_alpha={log_alpha}, beta={beta}.")
    middle: list[Float[np.ndarray, "3 3"]] = [
        np.array([[v, 0, 0], [0, 1, 0], [0, np.log(v), 1]]) for v in (np.exp(log_alpha), beta)
    ]
    operators = np.stack([np.outer([1.0, 1, 0], [1.0, -1, -1]), *middle])
    return GeneralisedHMM(None, operators / np.abs(np.linalg.eigvals(operators.sum(0))).max())
