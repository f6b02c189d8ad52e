"""Training by dynamic programming on the lifted, triply quantised Markov decision process: networks with proofs.

Everything here needs NumPy only; compiled kernels and JAX are loaded where a computation asks for them.
"""

from .certificate.certificate import Certificate
from .certificate.check import CertificateError
from .checks import check
from .problem import alphabet, tasks
from .problem.distribution import Distribution
from .problem.problem import Problem, read_table
from .problem.r1 import R1, Layer, Readout, Weights
from .search import classes
from .search.census import Census, census
from .search.dynamic import Choice, FiniteProblem, Policy, Reading, input_dependent_value, solve_dynamic
from .search.search import SearchProgress, solve
from .search.tables import Reductions

__all__ = [
    "R1",
    "Census",
    "Certificate",
    "CertificateError",
    "Choice",
    "Distribution",
    "FiniteProblem",
    "Layer",
    "Policy",
    "Problem",
    "Reading",
    "Readout",
    "Reductions",
    "SearchProgress",
    "Weights",
    "alphabet",
    "census",
    "check",
    "classes",
    "input_dependent_value",
    "read_table",
    "solve",
    "solve_dynamic",
    "tasks",
]
