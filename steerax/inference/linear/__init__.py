"""Inference for linear-Gaussian models of any order: verbs on series above `kernels/` and `solvers/`.

Of the files of the sister room `hmm` this one lacks `restarts` (a fit starts from an autoregression, so there is little to
compare, and it is not kept on disk), `online` and `gradient` (`fit` follows the exact gradient itself), `network` (the
solvers are the layers) and `exact_control` (the optimal control is a linear system, solved exactly by `Direct`).
"""
