"""Measuring the measures: what each reading says of models of which it is known what they have forgotten."""

from unlearnbench.meta.bank import BANK as BANK
from unlearnbench.meta.bank import Entry as Entry
from unlearnbench.meta.bench import Meta as Meta
from unlearnbench.meta.bench import measure_the_measures as measure_the_measures
from unlearnbench.meta.scores import Point as Point
from unlearnbench.meta.scores import Score as Score
from unlearnbench.meta.scores import score as score
