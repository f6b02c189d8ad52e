r"""Tokens as vectors: $e(0)=-\mathbf 1$, and $e(z)$ the unit vector $z$ for $z=1\dots m$, with $m=V-1$.

The vectors sum to zero, so every function of a token is uniquely $f(z)=\bar f+g\cdot e(z)$ with $\bar f$ the plain mean
over all tokens and $g_z=f(z)-\bar f$. [ChangMehta2025], Prop. 28; [KudreChangMehta2026], Prop. 9.
"""

import numpy as np
from jaxtyping import Float


def token_vectors(n_tokens: int) -> Float[np.ndarray, "V m"]:
    r"""Rows $e(0)\dots e(m)$."""
    return np.vstack([-np.ones((1, n_tokens - 1)), np.eye(n_tokens - 1)])


def mean_and_slope(f: Float[np.ndarray, "... V"]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "... m"]]:
    r"""$(\bar f,g)$ of functions of a token."""
    mean = f.mean(-1)
    return mean, f[..., 1:] - mean[..., None]
