"""The papers' figures, tables and theorems, run again: one file per experiment, each `run(config) -> Outcome`."""

# name -> module that holds it, in the order of the gallery
EXPERIMENTS: dict[str, str] = {
    "two-cycle": "steerax.experiments.reproduce.two_cycle",
    "weights": "steerax.experiments.reproduce.weights",
    "adapted": "steerax.experiments.reproduce.adapted",
    "dimension": "steerax.experiments.reproduce.dimension",
    "undercomplete": "steerax.experiments.reproduce.undercomplete",
    "training-curves": "steerax.experiments.reproduce.training_curves",
    "perturbation": "steerax.experiments.reproduce.perturbation",
    "higher-dimension": "steerax.experiments.reproduce.higher_dimension",
    "real-data": "steerax.experiments.reproduce.real_data",
    "complexity": "steerax.experiments.reproduce.complexity",
    "layers": "steerax.experiments.reproduce.layers",
    "duality": "steerax.experiments.reproduce.duality",
    "euler": "steerax.experiments.reproduce.euler",
    "pontryagin": "steerax.experiments.reproduce.pontryagin",
    "transport": "steerax.experiments.reproduce.transport",
    "risk": "steerax.experiments.reproduce.risk",
    "values": "steerax.experiments.reproduce.values",
    "lifting": "steerax.experiments.reproduce.lifting",
    "triple-quantisation": "steerax.experiments.reproduce.triple_quantisation",
    "optimality": "steerax.experiments.reproduce.optimality",
}

# started first where several run side by side, longest first, so that a short one is the last to end
LONG = ("dimension", "undercomplete", "higher-dimension", "real-data", "training-curves", "perturbation", "optimality")
# these measure how long something takes, which others beside them would change: they run last and alone
ALONE = ("complexity",)
