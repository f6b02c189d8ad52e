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
    attention = attention_report(network, process, strings, key=key) if strings.shape[1] >= 3 else None
    return Knowledge(probed, attention, swapped)
