"""Inference: what a model says of hidden states and of the next observation, and which past observations it comes from.

`verbs` are the public functions; they call the twin rooms `hmm` and `linear`. `predictor`, `score`, `represent` and
`reference` take anything that predicts tokens.
"""
