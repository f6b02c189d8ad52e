"""Inference for generalised hidden Markov models: verbs on tokens above `kernels/`, pure functions on arrays.

Of the files of the sister rooms this one lacks `smoother`, since a belief with negative entries is no distribution of a hidden
state that could be looked back at; `fit` and `select`, since the sets of matrices whose strings all have probabilities have no
tractable parameters; and `calibration`, as `hmm` does. Also `exact_control`, `gradient`, `network`, `online` and `restarts`,
which need a hidden chain.
"""
