"""Margins, their histograms, and the divergence of one ensemble's from another's.

Source: Georgiev et al., "Attribute-to-Delete: Machine Unlearning via Datamodel Matching", ICLR 2025, section 2 (KLoM)
and the authors' benchmark. Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from unlearnbench.api.runtime import log_odds

Array = npt.NDArray[np.float64]

CLIP = 100.0
FLOOR = 1e-5
"""Share of oracles in a bin that holds none: an unlearned model there costs ln(1e5) = 11.5 nats."""


def margins(outputs: Tensor, y: Tensor) -> Array:
    """Log-odds of the true class, clipped to +-100, of outputs [models, rows, classes]: [models, rows].

    There must be at least two classes.
    """
    found: Array = log_odds(outputs, y).clamp(-CLIP, CLIP).numpy()
    return found


def histograms(values: Array, low: Array, high: Array, bins: int) -> npt.NDArray[np.int64]:
    """How many of ``values`` [models, rows] fall into each equal bin between ``low`` and ``high`` [rows]: [bins, rows].

    A bin holds its lower edge, and the last one its upper edge as well: counting the values at or above each inner edge
    leaves nothing out, whichever way the outer edges are rounded. Where both ends are one, all is in the last bin.
    """
    edges = np.linspace(low, high, bins + 1)[1:-1]
    at_least = [np.full(values.shape[1], len(values)), *((values >= edge).sum(0) for edge in edges)]
    return -np.diff(np.stack([*at_least, np.zeros_like(at_least[0])]), axis=0)


def klom(unlearned: Array, oracles: Array, bins: int = 20) -> Array:
    """KL(unlearned || oracles) of margins [models, rows] for each row, in nats: [rows].

    Both histograms of a row share ``bins`` equal bins on the joint range. Bins without an unlearned model add nothing;
    the share of oracles is floored at 1e-5.
    """
    low = np.minimum(unlearned.min(0), oracles.min(0))
    high = np.maximum(unlearned.max(0), oracles.max(0))
    p = histograms(unlearned, low, high, bins) / len(unlearned)
    q = np.maximum(histograms(oracles, low, high, bins) / len(oracles), FLOOR)
    terms = p * np.log(np.where(p > 0, p, 1.0) / q)
    found: Array = np.where(p > 0, terms, 0.0).sum(0)
    return found


def p95(values: Array) -> float:
    """The 95th percentile of values [rows]."""
    return float(np.quantile(values, 0.95))
