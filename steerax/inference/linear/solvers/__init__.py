"""Solvers of the dual control problem of a linear-Gaussian model, for `dual_filter(..., solver=…)`."""

from .closed_loop import ClosedLoop
from .direct import Direct
from .open_loop import OpenLoop
from .picard import Picard
from .schur import Schur

__all__ = ["ClosedLoop", "Direct", "OpenLoop", "Picard", "Schur"]
