"""Training by dynamic programming on the lifted, triply quantised Markov decision process: networks with proofs.

Everything here needs NumPy only; compiled kernels and JAX are loaded where a computation asks for them.
"""

from .certificate.certificate import Certificate as Certificate
from .certificate.check import CertificateError as CertificateError
from .certificate.check import check as check
from .problem import alphabet as alphabet
from .problem import tasks as tasks
from .problem.law import Law as Law
from .problem.problem import Problem as Problem
from .problem.problem import read_table as read_table
from .problem.r1 import R1 as R1
from .problem.r1 import Layer as Layer
from .problem.r1 import Readout as Readout
from .problem.r1 import Weights as Weights
from .search import classes as classes
from .search.census import Census as Census
from .search.census import census as census
from .search.dynamic import Choice as Choice
from .search.dynamic import FiniteProblem as FiniteProblem
from .search.dynamic import Policy as Policy
from .search.dynamic import Reading as Reading
from .search.dynamic import input_dependent_value as input_dependent_value
from .search.dynamic import solve_dynamic as solve_dynamic
from .search.search import LiftedSolution as LiftedSolution
from .search.search import Report as Report
from .search.search import solve as solve
from .search.tables import Reductions as Reductions
