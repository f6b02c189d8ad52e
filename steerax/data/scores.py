"""How well a predictor predicts: log-likelihoods of tokens, their mean and its standard error over sequences."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Log-likelihood of every token of a data set under a predictor, in nats.

    **Attributes:** `log_likelihoods` `[B T]`, zero where nothing is scored; `scored` bool `[B T]`; `cross_entropy`, the
    mean of `-log p` over scored tokens; `standard_error`, from the spread between sequences (0 for a single one, NaN for
    an infinite mean).
    """

    log_likelihoods: np.ndarray
    scored: np.ndarray

    @property
    def cross_entropy(self) -> float:
        return float(-self.log_likelihoods.sum() / max(self.scored.sum(), 1))

    @property
    def standard_error(self) -> float:
        n = self.scored.sum(1)
        if len(n) < 2:
            return 0.0
        if not np.isfinite(self.cross_entropy):
            return float("nan")
        # ratio estimator: total loss over total tokens, sequences being the independent units
        residual = -self.log_likelihoods.sum(1) - self.cross_entropy * n
        return float(np.sqrt(np.sum(residual**2) * len(n) / (len(n) - 1)) / n.sum())

    def on(self, scored: np.ndarray) -> "TokenScores":
        """The scores of some of the tokens only, bool `[B T]`."""
        return TokenScores(np.where(scored, self.log_likelihoods, 0.0), scored)
