"""A challenge for whoever serves the patched model: points of the certified region that nobody knew before.

A server that keeps a list of samples, or serves another model than the one that was certified, does not know which
points of the region it will be asked about. Points are uniform in the region, whoever serves the model answers them,
and every answer has to be the certified one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from unlearnbench_verifier.answers import ask, write_points
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.network import affine, pattern_of
from unlearnbench_verifier.numbers import Ball, Undecided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unlearnbench_verifier.form import Certificate
    from unlearnbench_verifier.model import Model

    Floats = NDArray[np.float64]

__all__ = ["ask", "detection", "draw", "hit_and_run", "judge", "said", "write_points"]

SWEEPS = 20
"""Moves along every axis, for each point."""
DIRECTIONS = 8
"""Moves along a uniform direction in every sweep: each costs about as much as moves along all axes."""
CHAINS = 500
"""How many go at the same time, which bounds the memory."""
WORK = 1e9
"""Most slacks that these work out; a region with more features and rows gets fewer sweeps, but one at least."""
ROUNDING = 2.0**-18
"""How far points stay away from every bound, as a share of the largest sum on the way to it.

That is 64 units of a float32: rounding a point to float32 leaves it inside, and a server that works in float32 finds
the same pattern.
"""
TURNS = 16
NEWTON = 50
ANSWER_ROUNDING = 2.0**-13
"""Lead that an answer may lack, as a share of its largest output: a server that works in float32 is no liar."""
SHARES = (0.01, 0.05)


def draw(
    model: Model, certificate: Certificate, k: int, seed: int, sample: Floats | None = None
) -> NDArray[np.float32]:
    """``k`` points [k, features] of the region that a certificate speaks of, for a server of the model.

    Args:
        model: What the certificate is about; inputs of the classifier part where it is split.
        certificate: Its pattern and box make the region; of a committed gate, the sample does.
        k: How many, at least 1.
        seed: The same seed gives the same points; who serves the model must not know it.
        sample: Features of the forgotten sample, if they are at hand.

    Raises:
        Refusal: the region is unknown without the sample (needs-sample), or has no inside (thin-region).
    """
    start = certificate.request.sample if sample is None else sample
    claim = certificate.region
    pattern = claim.pattern
    if pattern is None:
        if start is None:
            raise Refusal("needs-sample", "the region is a secret of whoever has the sample", where="--challenge",
                          hint="give the sample with --sample")  # fmt: skip
        try:
            pattern = pattern_of(model.network, start, Ball)
        except Undecided as problem:
            raise _thin("the sample lies on the border of its region") from problem
    features = model.network.features
    low, high = np.full(features, float(certificate.low)), np.full(features, float(certificate.high))
    centre = None if claim.centre is None else np.asarray(claim.centre, dtype=np.float64)
    if centre is not None and claim.radius is not None:
        low, high = np.maximum(low, centre - claim.radius), np.minimum(high, centre + claim.radius)
    if start is None:
        start = (low + high) / 2 if centre is None else centre
    rows = affine(model.network, pattern, Ball).rows.middle
    rng = np.random.default_rng(seed)
    return hit_and_run(rows[:, :-1], rows[:, -1], low, high, np.asarray(start, dtype=np.float64), k, rng)


def hit_and_run(
    g: Floats, h: Floats, low: Floats, high: Floats, start: Floats, k: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Points [k, d] strictly inside {x: g @ x + h >= 0, low <= x <= high}, each from a chain of its own.

    Every chain begins at the same inner point and goes to a uniform point of the chord through the region, along one
    axis after the other in random order, with 8 directions uniform on the sphere among them: 20 such sweeps (fewer
    where that would be more than 1e9 slacks). The last point of a chain is taken and all before it are left out, so
    that points depend on each other by nothing but the first one. Both kinds of moves leave the uniform distribution
    as it is (Smith, Operations Research 1984); moves along axes forget the start faster in regions that are mostly
    box.

    Args:
        g: [rows, d]
        h: [rows]
        low: Least value [d] of each feature.
        high: Largest value [d] of each feature.
        start: A point [d] of the region; on its border it is pushed inside, outside it is taken for a place to begin.
        k: How many points.
        rng: Where random numbers come from; the same state gives the same points.

    Raises:
        Refusal: nothing was found that is clearly inside (thin-region).
    """
    g, h, low, high = _shrunk(g, h, low, high)
    inner = _inner(g, h, low, high, start)
    several = [min(CHAINS, k - done) for done in range(0, k, CHAINS)]
    return np.concatenate([_chains(g, h, low, high, inner, chains, rng) for chains in several])


def _chains(
    g: Floats, h: Floats, low: Floats, high: Floats, inner: Floats, chains: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Where so many chains [chains, d] end that go from one point at the same time."""
    x = np.repeat(inner[None], chains, axis=0)
    slack = x @ g.T + h
    for axis in _axes(len(low), chains * max(len(h), 1), rng):
        if axis is None:
            ways = rng.standard_normal(x.shape)
            bounds = np.concatenate([slack, x - low, high - x], axis=1)
            least, most = _chord(bounds, np.concatenate([ways @ g.T, ways, -ways], axis=1))
            x += (least + rng.random(chains) * (most - least))[:, None] * ways
            np.clip(x, low, high, out=x)  # rounding must not leave the box
            slack = x @ g.T + h
        else:
            column = g[:, axis]
            least, most = _chord(slack, column)
            least, most = np.maximum(least, low[axis] - x[:, axis]), np.minimum(most, high[axis] - x[:, axis])
            way = least + rng.random(chains) * np.maximum(most - least, 0)
            x[:, axis] += way
            slack += way[:, None] * column
    return x.astype(np.float32)


def _shrunk(g: Floats, h: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The region without its skin; rows that no feature changes are looked at here and left out."""
    largest = np.maximum(np.abs(low), np.abs(high))
    fixed = ~g.any(axis=1)
    if (h[fixed] < 0).any():
        raise _thin("a row of the region is negative everywhere")
    g, h = g[~fixed], h[~fixed]
    h = h - ROUNDING * (np.abs(g) @ largest + np.abs(h))
    low, high = low + ROUNDING * largest, high - ROUNDING * largest
    if not (low < high).all():
        raise _thin("its box is narrower than rounding")
    return g, h, low, high


def _inner(g: Floats, h: Floats, low: Floats, high: Floats, start: Floats) -> Floats:
    """About the analytic centre of the region, far from all bounds: a chain forgets such a start soonest.

    A point whose least slack t is above 0 comes first, by maximising t along the central path; the start may be on a
    facet, or outside.
    """
    norms = np.sqrt((g * g).sum(axis=1))
    g, h = g / norms[:, None], h / norms
    width = high - low
    x = np.clip(start, low + width / 1000, high - width / 1000)
    least = float((g @ x + h).min(initial=np.inf))
    if least <= 0:
        wide = float(width.max())
        raised = np.hstack([g, np.full((len(g), 1), -1.0)])
        lowest, highest = np.append(low, least - 2 * wide), np.append(high, wide)
        z = np.append(x, least - wide)
        for turn in range(TURNS):
            z = _centre(raised, h, lowest, highest, z, len(h) / wide * 8.0**turn)
            if z[-1] > 0:
                break
        else:
            raise _thin("nothing was found in it that is clear of its border")
        x = z[:-1]
    return _centre(g, h, low, high, x, 0.0)


def _centre(g: Floats, h: Floats, low: Floats, high: Floats, x: Floats, pull: float) -> Floats:
    """Towards the maximum of the sum of the logarithms of all slacks and ``pull`` times the last feature.

    By Newton's steps from a point inside; Boyd and Vandenberghe, Convex Optimization, section 11.3.
    """

    def value(x: Floats) -> float:
        gaps = np.concatenate([g @ x + h, x - low, high - x])
        return float(np.log(gaps).sum() + pull * x[-1]) if gaps.min() > 0 else -np.inf

    for _ in range(NEWTON):
        slack, below, above = g @ x + h, x - low, high - x
        slope = g.T @ (1 / slack) + 1 / below - 1 / above
        slope[-1] += pull
        boxed = 1 / below**2 + 1 / above**2
        try:
            if len(h) < len(x):  # the matrix of the rows is the smaller one (Woodbury)
                scaled = g / boxed
                inner = np.linalg.solve(np.diag(slack**2) + scaled @ g.T, scaled @ slope)
                step: Floats = slope / boxed - scaled.T @ inner
            else:
                matrix = g.T @ (g / (slack**2)[:, None]) + np.diag(boxed)
                step = np.linalg.solve(matrix, slope).astype(np.float64)
        except np.linalg.LinAlgError:
            return x  # on the border as far as rounding can tell
        rise = float(slope @ step)
        before, length = value(x), 1.0
        while rise > 1e-2 and not value(x + length * step) >= before + length * rise / 4:
            length /= 2
            if length < 1e-9:
                return x
        if not rise > 1e-2:
            return x
        x = x + length * step
    return x


def _axes(d: int, cost: int, rng: np.random.Generator) -> Iterator[int | None]:
    """Along what each move goes; None is a direction of each chain's own."""
    moves = int(min(SWEEPS * d, max(d, WORK / cost)))
    apart = -(-d // DIRECTIONS)
    for move in range(moves):
        if move % d == 0:
            order = rng.permutation(d)
        yield int(order[move % d])
        if move % apart == apart - 1 or move == moves - 1:
            yield None


def _chord(slack: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Least and largest t [k] with ``slack + t * rates >= 0``; slack [k, rows], rates the same or [rows]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = -np.maximum(slack, 0) / rates
    least = np.where(rates > 0, t, -np.inf).max(axis=1, initial=-np.inf)
    most = np.where(rates < 0, t, np.inf).min(axis=1, initial=np.inf)
    return least, most


def _thin(cause: str) -> Refusal:
    return Refusal("thin-region", f"no points of the region can be drawn: {cause}", where="--challenge",
                   hint="leave the challenge out; the other checks hold without it")  # fmt: skip


# -- answers -----------------------------------------------------------------------------------------------------------


def judge(
    points: NDArray[np.float32], answers: NDArray[np.float64] | NDArray[np.int64], target: int, margin: float
) -> int:
    """How many answers break the claim.

    Args:
        points: [k, features]
        answers: Outputs [k, outputs] or labels [k], as :func:`ask` returns them.
        target: The class that every point of the region is sent to.
        margin: By how much it leads. Outputs may lack 2**-13 of the largest of them, since whoever serves the model
            may work in float32; the target leads in any case. Labels say nothing about it.

    Raises:
        Refusal: there are not as many answers as points, or no output for the target (bad-answers).
    """
    if len(answers) != len(points):
        raise Refusal("bad-answers", f"{len(answers)} answers to {len(points)} points", where="--challenge",
                      hint="answer every point, in order")  # fmt: skip
    if answers.ndim == 1:
        return int((answers != target).sum())
    if not 0 <= target < answers.shape[1] or answers.shape[1] < 2:
        raise Refusal("bad-answers", f"{answers.shape[1]} outputs for a point, and the target is {target}",
                      where="--challenge", hint="answer with all outputs of the model")  # fmt: skip
    others = np.delete(answers, target, axis=1).max(axis=1)
    lead = answers[:, target] - others
    allowed = margin - ANSWER_ROUNDING * np.abs(answers).max(axis=1)
    return int((~((lead > 0) & (lead >= allowed))).sum())  # so that NaN is a violation


def detection(q: float, k: int) -> float:
    """Probability that ``k`` points catch a server that answers otherwise on a share ``q`` of the region."""
    return 1 - (1 - q) ** k


def said(k: int, violations: int, place: str = "region") -> str:
    """The line about a challenge."""
    shares = [f"{100 * share:g} %" for share in SHARES]
    caught = [f"{detection(share, k):.3f}" for share in SHARES]
    return (
        f"{k} points of the {place}: {violations} violation{'' if violations == 1 else 's'}; a server that answers "
        f"otherwise on {shares[0]} ({shares[1]}) of them is caught with probability {caught[0]} ({caught[1]})"
    )
