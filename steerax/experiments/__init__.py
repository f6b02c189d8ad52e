"""The papers' figures, tables and theorems, run again, and `compare`, the comparison on a user's own data.

An experiment is a folder: `experiment.py` computes numbers and figures, `page.md` says what they mean and what is claimed.
"""

# in the order of the gallery; the folder of an experiment has underscores for hyphens
EXPERIMENTS = (
    "two-cycle",
    "weights",
    "adapted",
    "dimension",
    "undercomplete",
    "non-markovian",
    "training-curves",
    "perturbation",
    "higher-dimension",
    "real-data",
    "complexity",
    "layers",
    "duality",
    "euler",
    "pontryagin",
    "transport",
    "risk",
    "values",
    "lifting",
    "triple-quantisation",
    "optimality",
    "zoo",
    "beliefs",
    "wiener-attention",
)
# started first where several run side by side, longest first, so that a short one is the last to end
LONG = (
    "wiener-attention",
    "non-markovian",
    "dimension",
    "undercomplete",
    "higher-dimension",
    "real-data",
    "training-curves",
    "perturbation",
    "optimality",
)
# these measure how long something takes, which others beside them would change: they run last and alone
ALONE = ("complexity",)
