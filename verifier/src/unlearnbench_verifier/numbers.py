"""Two number systems with the same operations: balls in float64 (fast) and dyadic rationals (exact)."""

from unlearnbench_verifier.arithmetic import Floats, N, Number, Undecided
from unlearnbench_verifier.balls import Ball
from unlearnbench_verifier.dyadics import Exact

__all__ = ["Ball", "Exact", "Floats", "N", "Number", "Undecided"]
