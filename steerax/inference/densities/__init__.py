"""Hidden Markov models that emit numbers: the recursions of the room `hmm`, fed with likelihoods in place of tokens.

The same files and verbs as its sisters. There is no `represent`, which sums over an alphabet.
"""
