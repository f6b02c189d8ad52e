"""Inference for linear-Gaussian models of any order: verbs on series above `kernels/` and `solvers/`.

Of the files of the sister room `hmm` this one lacks `restarts` (random starts are followed one after the other by `fit`,
which keeps nothing on disk: it has no `run_folder` and no `resume`), `online` (there is no fit to a stream), `gradient`
(`fit` follows the exact gradient itself), `network` (the solvers are the layers) and `exact_control` (the optimal control
solves a linear system, which `Direct` factorises).
"""
