"""Watch depth while a GPT trains: a hook for the training loop."""

from typing import Any

import numpy as np

from ..runs.loop import Hook, Snapshot
from .scoring import scored_tokens
from .stationarity import stationarity


def telemetry(tokens: Any, batches: int = 8) -> Hook:
    r"""A hook for `train_gpt(..., hooks=[telemetry(tokens)])` that records, per layer:

    `signal`, the unbiased $|\mathbb E\,\partial\ell/\partial\theta_l|^2$; `signal_se`; `gradient`, $\mathbb E|g|^2$ of one
    batch; `meter`, their ratio (near 0: only noise is left to learn from); `effective_decay`,
    $-\langle g,\theta\rangle/|\theta|^2$. Costs one forward and backward pass over `tokens` int `[B N]` at each call.
    """

    def hook(snapshot: Snapshot) -> dict[str, Any]:
        gpt = snapshot.state[0]
        scored_tokens(gpt, tokens)
        found = stationarity(gpt, np.asarray(tokens), batches)
        names = {"signal": found.signal, "signal_se": found.se, "gradient": found.batch, "meter": found.meter}
        record = names | {"effective_decay": found.effective_decay}
        return {"depth": {name: np.asarray(values).tolist() for name, values in record.items()}}

    return hook
