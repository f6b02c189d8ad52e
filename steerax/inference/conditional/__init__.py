"""Inference for conditionally Markov models, chains whose transitions and emissions read the tokens so far: verbs on tokens above
`kernels/`, pure functions on arrays.

The model gives a kernel for each step (`model.kernels`), and everything else is that of a chain whose matrix changes with time.

Of the files of the sister rooms this one lacks `calibration`, as `hmm` does; `online`, since an update after each block of data would
need the steps of the attention too; `restarts`, as those of `hmm` serve every chain; and `network`, layers that are no longer tied,
which have no kernels to read.
"""
