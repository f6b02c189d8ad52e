"""Training by dynamic programming on the lifted, triply quantised Markov decision process: networks with proofs.

Everything here needs NumPy only; compiled kernels and JAX are loaded where a computation asks for them.
"""

from . import alphabet as alphabet
from . import classes as classes
from . import tasks as tasks
from .census import Census as Census
from .census import census as census
from .certify import Certificate as Certificate
from .check import CertificateError as CertificateError
from .check import check as check
from .dynamic import Choice as Choice
from .dynamic import FiniteProblem as FiniteProblem
from .dynamic import Policy as Policy
from .dynamic import Reading as Reading
from .dynamic import input_dependent_value as input_dependent_value
from .dynamic import solve_dynamic as solve_dynamic
from .law import Law as Law
from .problem import Problem as Problem
from .problem import read_table as read_table
from .r1 import R1 as R1
from .r1 import Layer as Layer
from .r1 import Readout as Readout
from .r1 import Weights as Weights
from .search import LiftedSolution as LiftedSolution
from .search import Report as Report
from .search import solve as solve
from .tables import Reductions as Reductions
