"""Inference for hidden Markov models: verbs on tokens above `kernels/`, pure functions on arrays.

Of the files of the sister room `linear` this one lacks `calibration`: intervals of tokens are sets of probabilities, with
no scale that recent errors could correct.
"""
