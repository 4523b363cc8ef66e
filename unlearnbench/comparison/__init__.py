"""Records compared: per scenario and reading, estimates over seeds, gaps to gold, paired tests, ranks and ties.

The training seed is the unit of inference. Readings of runs that share a training seed are first averaged over measure
seeds, then over unlearning seeds; what is left is one value per unlearner and training seed, and methods are compared
on the seeds that they share. A reading without a value is counted and said, never averaged as if it were a number.
"""

from unlearnbench.comparison.compare import compare, grouped, reading_keys
from unlearnbench.comparison.document import (
    Comparison,
    Contender,
    Floor,
    LeftOut,
    Pair,
    Ranks,
    ReadingComparison,
    Row,
)
from unlearnbench.comparison.tables import FilledTable, fill_table
from unlearnbench.statistics import Components, Estimate

__all__ = [
    "Comparison",
    "Components",
    "Contender",
    "Estimate",
    "FilledTable",
    "Floor",
    "LeftOut",
    "Pair",
    "Ranks",
    "ReadingComparison",
    "Row",
    "compare",
    "fill_table",
    "grouped",
    "reading_keys",
]
