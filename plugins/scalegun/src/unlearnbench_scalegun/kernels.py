"""Kernels on the state of a propagation; columns ``first`` to ``last`` of it, so that threads can share the columns.

At level l, ``share`` holds q(u) / d(u), what every neighbour of u has received, and ``residue`` what waits at u. The
last level has no residue and nobody who receives from it: ``final`` holds its q. A change of degree therefore leaves
every share as it is, and only residues (and the last level) of the nodes whose degree changes have to be corrected.

Every kernel counts what rounding it does in ``rounded``, column by column, in units of the unit roundoff of the state's
precision: the size of every number that is stored, and what the arithmetic before it can have lost. All arithmetic that
is not a plain addition to the state is done in double precision; ``inner`` is its unit roundoff in those units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unlearnbench_scalegun.adjacency import Counts, Flags, Offsets
from unlearnbench_scalegun.compiling import COUNTS, FLAGS, INDEX, OFFSETS, SUMS, compiled, for_both, numba, prefetch

Table = NDArray[np.float32] | NDArray[np.float64]
Sums = NDArray[np.float64]
SUMMED = 4096
"""So many sizes are summed in the state's precision before the sum goes to one in double precision."""
AHEAD = 16
"""So many neighbours before its turn a row is asked for."""
LINE = 64
"""Bytes that come from memory at once."""
_float = numba.float64
_void = numba.void


@compiled(*for_both(lambda _, table: _void(table, table, COUNTS, INDEX, INDEX, SUMS, SUMS)))
def first_shares(x: Table, share: Table, length: Counts, first: int, last: int, mass: Sums, size: Sums) -> None:
    """share = x / sqrt(d); adds sum over u of sqrt(d)|x| to ``mass`` and of d * |share| to ``size``."""
    for u in range(len(length)):
        degree = _float(length[u] + 1)
        root = np.sqrt(degree)
        for j in range(first, last):
            value = _float(x[u, j])
            share[u, j] = value / root
            mass[j] += root * abs(value)
            size[j] += root * abs(value)


@compiled(*for_both(lambda _, table: _void(table, table, OFFSETS, COUNTS, COUNTS, numba.boolean, INDEX, INDEX, SUMS)))
def pull(
    share: Table, target: Table, offset: Offsets, length: Counts, neighbours: Counts, divided: bool,
    first: int, last: int, size: Sums,
) -> None:  # fmt: skip
    """target(u) = sum over u and its neighbours t of share(t), over d(u) if ``divided``; its mass is added to ``size``.

    Sums are in double precision whatever the state's.
    """
    total, end = np.empty(last - first), len(neighbours) - 1
    for u in range(len(length)):
        for j in range(first, last):
            total[j - first] = share[u, j]
        for i in range(offset[u], offset[u] + length[u]):
            t, soon = neighbours[i], neighbours[min(i + AHEAD, end)]
            for j in range(first, last, LINE // share.itemsize):
                prefetch(share, soon, j)
            for j in range(first, last):
                total[j - first] += share[t, j]
        divisor = _float(length[u] + 1) if divided else 1.0
        for j in range(first, last):
            target[u, j] = total[j - first] / divisor
            size[j] += abs(total[j - first])


@compiled(*for_both(lambda _, table: _void(OFFSETS, table, INDEX, INDEX, SUMS)))
def withdraw(nodes: Offsets, residue: Table, first: int, last: int, taken: Sums) -> None:
    """Add the sizes of the residues of nodes that are about to change to ``taken``."""
    for i in range(len(nodes)):
        for j in range(first, last):
            taken[j] += abs(_float(residue[nodes[i], j]))


@compiled(*for_both(lambda _, table: _void(OFFSETS, table, COUNTS, INDEX, INDEX, SUMS)))
def weigh(nodes: Offsets, x: Table, length: Counts, first: int, last: int, mass: Sums) -> None:
    """Add sqrt(d(u)) |x(u)| of these nodes to ``mass``."""
    for i in range(len(nodes)):
        root = np.sqrt(_float(length[nodes[i]] + 1))
        for j in range(first, last):
            mass[j] += root * abs(_float(x[nodes[i], j]))


@compiled(*for_both(lambda _, table: _void(OFFSETS, table, table, table, COUNTS, _float, INDEX, INDEX, SUMS)))
def renew_first(
    nodes: Offsets, x: Table, share: Table, residue: Table, length: Counts, inner: float,
    first: int, last: int, rounded: Sums,
) -> None:  # fmt: skip
    """residue = sqrt(d) x - d * share at the first level, for nodes whose degree or features have changed."""
    for i in range(len(nodes)):
        u = nodes[i]
        degree = _float(length[u] + 1)
        root = np.sqrt(degree)
        for j in range(first, last):
            wanted, held = root * _float(x[u, j]), degree * _float(share[u, j])
            residue[u, j] = wanted - held
            rounded[j] += abs(wanted - held) + inner * (2 * abs(wanted) + abs(held))


@compiled(*for_both(lambda _, table: _void(OFFSETS, OFFSETS, _float, table, table, table, INDEX, INDEX, SUMS)))
def correct(
    us: Offsets, vs: Offsets, sign: float, below: Table, share: Table, residue: Table,
    first: int, last: int, rounded: Sums,
) -> None:  # fmt: skip
    """Residues of the ends of edges that went (sign 1) or came (sign -1), at a level in between.

    With v, u loses 1 of its degree, hence share(u) of q(u), and ``below(v)``, v's share of the level before, from what
    q(u) and r(u) must add up to: r(u) rises by share(u) - below(v). Shares are those before any push.
    """
    for i in range(len(us)):
        for way in range(2):
            u, v = (us[i], vs[i]) if way == 0 else (vs[i], us[i])
            for j in range(first, last):
                step = _float(share[u, j]) - _float(below[v, j])
                after = _float(residue[u, j]) + sign * step
                residue[u, j] = after
                rounded[j] += abs(after) + abs(step)


@compiled(*for_both(lambda _, table: _void(OFFSETS, OFFSETS, _float, table, table, INDEX, INDEX, SUMS)))
def correct_final(
    us: Offsets, vs: Offsets, sign: float, below: Table, final: Table, first: int, last: int, rounded: Sums
) -> None:
    """The last level at the ends of edges that went (sign 1) or came (sign -1): it loses or gains ``below`` at once."""
    for i in range(len(us)):
        for way in range(2):
            u, v = (us[i], vs[i]) if way == 0 else (vs[i], us[i])
            for j in range(first, last):
                after = _float(final[u, j]) - sign * _float(below[v, j])
                final[u, j] = after
                rounded[j] += abs(after)


@compiled(*for_both(lambda _, table: INDEX(COUNTS, table, _float, INDEX, INDEX, FLAGS, SUMS, COUNTS)))
def select(
    candidates: Counts, residue: Table, rmax: float, first: int, last: int, mark: Flags, added: Sums, over: Counts
) -> int:
    """Candidates with a residue above ``rmax`` to ``over``; how many they are.

    The sizes of the residues that stay go to ``added``; the candidates' marks are cleared.
    """
    count = 0
    for i in range(len(candidates)):
        u = candidates[i]
        mark[u] = 0
        largest = 0.0
        for j in range(first, last):
            size = abs(_float(residue[u, j]))
            largest = max(largest, size)
            added[j] += size if size <= rmax else 0.0
        if largest > rmax:
            over[count] = u
            count += 1
    return count


@compiled(
    *for_both(
        lambda vector, table: INDEX(
            COUNTS, table, table, table, numba.boolean, OFFSETS, COUNTS, COUNTS, _float, INDEX, INDEX,
            FLAGS, COUNTS, INDEX, vector, vector, SUMS, SUMS, SUMS,
        )
    )
)  # fmt: skip
def push(
    nodes: Counts, share: Table, residue: Table, target: Table, waits: bool,
    offset: Offsets, length: Counts, neighbours: Counts, rmax: float, first: int, last: int,
    mark: Flags, touched: Counts, reached: int, gain: Table, swell: Table,
    taken: Sums, rounded: Sums, rounded_next: Sums,
) -> int:  # fmt: skip
    """Hand the residues above ``rmax`` of these nodes on to the next level; how many nodes of it are marked by now.

    ``target`` is the next level's residue (``waits``) or the last level's q. What a node hands to each neighbour is
    what its share really grew by, after rounding. When a node is reached for the first time, its residue's size goes
    to ``taken``.
    """
    width = last - first
    swell[:] = 0
    for i in range(len(nodes)):
        u = nodes[i]
        degree = _float(length[u] + 1)
        for j in range(first, last):
            size = _float(residue[u, j])
            before = share[u, j]
            gain[j - first] = 0
            if abs(size) > rmax:
                share[u, j] = _float(before) + size / degree
                gain[j - first] = share[u, j] - before
                residue[u, j] = 0
                # q and what is handed on: each of d neighbours gets the gain, which is rounded where it is not exact.
                rounded[j] += degree * abs(_float(share[u, j])) + 2 * abs(size)
        begin, others = offset[u], length[u]
        for k in range(min(AHEAD, others)):
            for j in range(first, last, LINE // target.itemsize):
                prefetch(target, neighbours[begin + k], j)
        for k in range(others + 1):
            t = neighbours[begin + k] if k < others else u
            if k + AHEAD < others:
                for j in range(first, last, LINE // target.itemsize):
                    prefetch(target, neighbours[begin + k + AHEAD], j)
            if not mark[t]:
                mark[t] = 1
                touched[reached] = t
                reached += 1
                if waits:
                    for j in range(first, last):
                        taken[j] += abs(_float(target[t, j]))
            for j in range(width):
                after = target[t, first + j] + gain[j]
                target[t, first + j] = after
                swell[j] += abs(after) if gain[j] != 0 else 0
            if k == others or k % SUMMED == SUMMED - 1:
                for j in range(width):
                    rounded_next[first + j] += swell[j]
                    swell[j] = 0
    return reached
