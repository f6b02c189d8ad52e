"""All that is asked of a network and its process at once: probes, attention against its prediction, a causal test."""

from typing import Any

import numpy as np
from jaxtyping import Int

from .._errors import DataError
from ..models.generalised import as_generalised
from .attention import attention_report
from .intervene import swap
from .probing import probe
from .record import Knowledge
from .streams import is_network

FEWEST = 32  # strings
_USUAL, _NUMBERS = 2048, 40_000_000  # strings, and numbers of all residual streams that are held


def strings_for(network: Any, length: int) -> int:
    """How many strings of a length are read of a network of the house: 2048, or fewer where its streams would fill memory."""
    config = network.config
    return max(FEWEST, min(_USUAL, _NUMBERS // (length * config.n_embd * (2 * config.n_layer + 1))))


def knowledge_of(network: Any, model: Any, strings: Int[np.ndarray, "B T"], key: Any = 0) -> Knowledge:
    """Probe a network (or activations captured elsewhere, which have no attention and no causal test), with the strings as they are.

    What cannot be asked of this process or these strings is said in `Knowledge.reason`, or left out.
    """
    process = as_generalised(model)
    if process.n_states == 1:
        return Knowledge(reason="The process has one state, so there is nothing to believe.")
    if len(strings) < FEWEST:
        return Knowledge(reason=f"Beliefs are read from whole windows without gaps; there are {len(strings)}, too few.")
    try:
        probed = probe(network, process, strings, key=key)
    except DataError as error:
        return Knowledge(reason=str(error))
    if not np.isfinite(probed.r2).any():
        return Knowledge(
            reason="The belief is the same after every string of this length, so there is nothing to read."
        )
    if not (is_network(network) and hasattr(network, "block")):
        return Knowledge(probed)
    half = len(strings) // 2
    at = probed.layers[int(np.nanargmax(probed.r2))]
    swapped = swap(network, process, strings[:half], strings[half : 2 * half], at, key=key)
    try:
        return Knowledge(probed, attention_report(network, process, strings, key=key), swapped)
    except DataError as error:
        return Knowledge(probed, None, swapped, f"Attention is not compared with a prediction. {error}")
