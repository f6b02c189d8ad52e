"""Transformers as optimal-control problems, in JAX: infer with them, analyse them, train them.

The public names are listed in `_HOME` below and load on first use, so that `import steerax` costs little more than
nothing until a wing of the library is entered.
"""

import importlib
import importlib.metadata
from typing import Any

__version__ = importlib.metadata.version("steerax")

# public name -> module that defines it
_HOME: dict[str, str] = {
    # errors and results
    "RESULTS": "steerax._results",
    "Solution": "steerax._results",
    "SteeraxError": "steerax._errors",
    "DataError": "steerax._errors",
    "ImpossibleTokenError": "steerax._errors",
    "CheckpointError": "steerax._errors",
    "ConfigurationError": "steerax._errors",
    # data
    "Sequences": "steerax.data.sequences",
    "Vocabulary": "steerax.data.vocabulary",
    # processes
    "HiddenMarkovModel": "steerax.models.hmm",
    "sample_sequences": "steerax.models.sampling",
    # inference
    "forecast": "steerax.inference.forecast",
    # inference: hidden Markov
    "forward_filter": "steerax.inference.hmm.filter",
    "dual_filter": "steerax.inference.hmm.dual",
    "explain": "steerax.inference.explain",
    "fit_hmm": "steerax.inference.hmm.fit",
    "Pseudocounts": "steerax.inference.hmm.kernels.em",
    "fit_hmm_online": "steerax.inference.hmm.online",
    "select_states": "steerax.inference.hmm.select",
    "align_states": "steerax.inference.hmm.select",
    "train_by_gradient": "steerax.inference.hmm.gradient",
    "DualFilterNetwork": "steerax.inference.hmm.network",
    "score_network": "steerax.inference.hmm.network",
    "smooth": "steerax.inference.hmm.smoother",
    "most_likely_states": "steerax.inference.hmm.smoother",
    "optimal_control": "steerax.inference.hmm.exact_control",
    "represent": "steerax.inference.represent",
    "support": "steerax.inference.reference",
    "next_token_predictor": "steerax.inference.predictor",
    "score_tokens": "steerax.inference.hmm.filter",
    "predict_next_tokens": "steerax.inference.hmm.filter",
    # files
    "save": "steerax.runs.models",
    "load": "steerax.runs.models",
    # transformer and training
    "GPT": "steerax.transformer.gpt",
    "GPTConfig": "steerax.transformer.gpt",
    "load_gpt": "steerax.transformer.checkpoint",
    "save_gpt": "steerax.transformer.checkpoint",
    "sample_tokens": "steerax.transformer.sample",
    "train_gpt": "steerax.training.gradient",
    # inference: linear-Gaussian
    "LinearGaussianModel": "steerax.models.linear_gaussian",
    "TimeVaryingLinearGaussianModel": "steerax.models.linear_gaussian",
    "kalman_filter": "steerax.inference.linear.filter",
    "linear_dual_filter": "steerax.inference.linear.dual",
    "kalman_smoother": "steerax.inference.linear.smoother",
    "fit_linear_gaussian": "steerax.inference.linear.fit",
    "select_order": "steerax.inference.linear.fit",
    "recalibrated": "steerax.inference.linear.calibration",
}
_WINGS = ("lifted", "depth", "models")

__all__ = ["__version__", *sorted(_HOME), *_WINGS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _WINGS:
        value = importlib.import_module(f"steerax.{name}")
    else:
        raise AttributeError(f"module 'steerax' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return __all__
