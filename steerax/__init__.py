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
    "SteeraxError": "steerax._errors",
    "DataError": "steerax._errors",
    "ImpossibleTokenError": "steerax._errors",
    "CheckpointError": "steerax._errors",
    "ConfigurationError": "steerax._errors",
    "WorkerError": "steerax._errors",
    # data
    "Sequences": "steerax.data.sequences",
    "Vocabulary": "steerax.data.vocabulary",
    "read": "steerax.data.read",
    # models
    "HiddenMarkovModel": "steerax.models.hmm",
    "GeneralisedHMM": "steerax.models.generalised",
    "AbstractConditionalHMM": "steerax.models.conditional",
    "LaggedHMM": "steerax.models.lagged",
    "LinearGaussianModel": "steerax.models.linear_gaussian",
    "TimeVaryingLinearGaussianModel": "steerax.models.linear_gaussian",
    "sample_sequences": "steerax.models.sampling",
    # inference: the verbs
    "filter": "steerax.inference.verbs",
    "smooth": "steerax.inference.verbs",
    "dual_filter": "steerax.inference.verbs",
    "explain": "steerax.inference.verbs",
    "forecast": "steerax.inference.verbs",
    "score": "steerax.inference.verbs",
    "start": "steerax.inference.verbs",
    "step": "steerax.inference.verbs",
    "sample": "steerax.inference.verbs",
    "fit": "steerax.inference.verbs",
    "select": "steerax.inference.verbs",
    "HMM": "steerax.inference.kinds",
    "Lagged": "steerax.inference.kinds",
    "LinearGaussian": "steerax.inference.kinds",
    # inference: any predictor of tokens
    "represent": "steerax.inference.represent",
    "support": "steerax.inference.reference",
    "next_token_predictor": "steerax.inference.predictor",
    "compare_predictors": "steerax.inference.score",
    # inference: hidden Markov models only
    "most_likely_states": "steerax.inference.verbs",
    "explain_norms": "steerax.inference.hmm.explain",
    "optimal_control": "steerax.inference.hmm.exact_control",
    "Pseudocounts": "steerax.inference.hmm.kernels.em",
    "align_states": "steerax.inference.align",
    "fit_online": "steerax.inference.online",
    "fit_by_gradient": "steerax.inference.gradient",
    "DualFilterNetwork": "steerax.inference.hmm.network",
    # inference: linear-Gaussian models only
    "recalibrate": "steerax.inference.linear.calibration",
    # many computations side by side
    "sweep": "steerax.runs.executors",
    # a table of sequences: the best attention network, with a proof
    "OptimalAttentionClassifier": "steerax.lifted.classifier.estimator",
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
}
# namespace -> package
_WINGS = {
    "beliefs": "steerax.beliefs",
    "depth": "steerax.depth",
    "emissions": "steerax.models.emissions",
    "lifted": "steerax.lifted",
    "models": "steerax.models",
    "solvers": "steerax.inference.linear.solvers",
}

__all__ = ["__version__", *sorted(_HOME), *_WINGS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _WINGS:
        value = importlib.import_module(_WINGS[name])
    else:
        raise AttributeError(f"module 'steerax' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return __all__
