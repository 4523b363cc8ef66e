"""What ScaleGUN's propagation costs: CPU time and memory on power-law graphs of up to 100 million edges.

Graphs are Chung-Lu graphs with exponent 2.5 and 10 edges per node, their nodes in random order; features are Gaussian,
edges are removed at random, L = 2, w = (0, 0, 1), one thread. Each part runs in a process of its own.

* update: single removals and a batch of 5,000, against a plain scipy.sparse re-propagation of the same graph (two
  products with a matrix that is there already);
* growth: single removals and the start, from 10^5 to 3 x 10^7 edges;
* start: exact products, 5,000 removals at once and peak memory, in single precision;
* newton: the Newton step on Cora, against an explicit inverse per class (needs UNLEARNBENCH_DATA);
* large: 10^8 edges, 10^7 nodes, 8 features in single precision; needs about 10 GB.

    OMP_NUM_THREADS=1 python benchmarks/scalegun.py [--part PART ...] [--quick]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy
from clock import seconds
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array
from sklearn.preprocessing import StandardScaler

from unlearnbench_scalegun import compiling
from unlearnbench_scalegun.linear import newton_step, train
from unlearnbench_scalegun.propagation import Propagation, propagate

EXPONENT = 2.5
WEIGHTS = (0.0, 0.0, 1.0)
RMAX = 1e-7
BATCH = 5_000
DEGREE = 10
"""Edges per node."""
CHUNK = 10_000_000
"""So many edges are drawn at a time."""


class Line(NamedTuple):
    """One line of the table: what was measured, against which target; ``fine`` is None where there is none."""

    what: str
    measured: str
    target: str = ""
    fine: bool | None = None


class Singles(NamedTuple):
    """CPU seconds of single removals."""

    median: float
    mean: float
    largest: float

    def __str__(self) -> str:
        return f"median {1e3 * self.median:.2f} ms, mean {1e3 * self.mean:.2f} ms, largest {1e3 * self.largest:.1f} ms"


def drawn_keys(n: int, m: int, i0: float, order: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
    """m pairs of nodes, each as u * n + v with u < v, drawn by weight; fewer by the loops among them."""
    power = 1 - 1 / (EXPONENT - 1)
    low, high = i0**power, (n + i0) ** power
    keys = np.empty(m, np.int64)
    filled = 0
    for first in range(0, m, CHUNK):
        places = (low + (high - low) * rng.random((2, min(CHUNK, m - first)))) ** (1 / power) - i0
        u, v = np.sort(order[np.minimum(places.astype(np.int64), n - 1)].astype(np.int64), 0)
        found = (u * n + v)[u < v]
        keys[filled : filled + len(found)] = found
        filled += len(found)
    return keys[:filled]


def power_law(n: int, m: int, seed: int = 0) -> NDArray[np.int64]:
    """Edges [2, m] of a Chung-Lu graph: ends drawn with weight (i + i0)^(-1 / (EXPONENT - 1)), no loops, no twins.

    i0 keeps the largest weight below the root of their sum, as Chung and Lu ask. Nodes are in random order.
    """
    decay = 1 / (EXPONENT - 1)
    i0 = 1.0
    for _ in range(50):
        scale = 2 * m * (1 - decay) / ((n + i0) ** (1 - decay) - i0 ** (1 - decay))
        i0 = (scale / np.sqrt(2 * m)) ** (1 / decay)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).astype(np.int32)
    keys = np.zeros(0, np.int64)
    while len(keys) < m:
        keys = np.concatenate([keys, drawn_keys(n, (m - len(keys)) * 51 // 50 + 10, i0, order, rng)])
        keys.sort()
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    keys[rng.choice(len(keys), len(keys) - m, replace=False)] = -1
    keys = keys[keys >= 0]
    edges = np.empty((2, m), np.int64)
    np.floor_divide(keys, n, out=edges[0])
    np.remainder(keys, n, out=edges[1])
    return edges


def gaussian(n: int, features: int, dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Features [n, F]."""
    return np.random.default_rng(1).standard_normal((n, features), dtype=dtype)


def random_edges(edges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of the edges [2, count], in random order."""
    return edges[:, np.random.default_rng(2).permutation(edges.shape[1])[:count]]


def singles(propagation: Propagation, edges: NDArray[np.int64]) -> Singles:
    """Remove edges one by one."""
    spent = []
    for edge in edges.T:
        began = process_time()
        propagation.update(remove=edge[:, None])
        spent.append(process_time() - began)
    return Singles(median(spent), mean(spent), max(spent))


def peak_gb() -> float:
    """Most memory that this process ever held, in GB; of the process alone, not of the one that started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e9


def started(x: NDArray[Any], edges: NDArray[np.int64], rmax: float = RMAX) -> tuple[Propagation, float]:
    """A start by exact products in single precision, and its CPU seconds."""
    made: list[Propagation] = []
    spent = seconds(lambda: made.append(Propagation.start(x, edges, WEIGHTS, rmax=rmax, precision="float32")))
    return made[0], spent


def batches_of(propagation: Propagation, gone: NDArray[np.int64]) -> list[float]:
    """CPU seconds of each batch of edges [2, batches * BATCH]."""
    return [
        seconds(partial(propagation.update, remove=gone[:, first : first + BATCH]))
        for first in range(0, gone.shape[1], BATCH)
    ]


def slope(sizes: list[int], costs: list[float]) -> float:
    """By which power of the size costs grow."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def update(quick: bool) -> list[Line]:
    """Removals against a re-propagation in double precision."""
    m = 10**6 if quick else 10**7
    n, edges = m // DEGREE, power_law(m // DEGREE, m)
    x = gaussian(n, 32, np.float64)
    propagation = Propagation.start(x, edges, WEIGHTS, rmax=RMAX)
    gone = random_edges(edges, 300 + 4 * BATCH)
    single = singles(propagation, gone[:, :300])
    batch = min(batches_of(propagation, gone[:, 300:]))
    bound, left, estimates = propagation.error(), propagation.edges, propagation.rows(np.arange(n))
    ones = np.ones(2 * left.shape[1])
    adjacency = coo_array((ones, (left.ravel(), left[::-1].ravel())), shape=(n, n)) + diags_array(np.ones(n))
    root = diags_array(1 / np.sqrt(adjacency.sum(1)))
    matrix = csr_array(root @ adjacency @ root)
    del adjacency
    whole = min(seconds(lambda: matrix @ (matrix @ x)) for _ in range(3))
    errors = np.abs(estimates - matrix @ (matrix @ x)).sum(0)
    return [
        Line(f"re-propagation by scipy.sparse, n = {n:.0e}, m = {m:.0e}, F = 32", f"{whole:.2f} s"),
        Line("300 single removals", str(single)),
        Line("re-propagation / single removal, median", f"{whole / single.median:,.0f}x", ">= 1,000x",
             whole >= 1000 * single.median),
        Line("re-propagation / single removal, mean", f"{whole / single.mean:,.0f}x", ">= 1,000x",
             whole >= 1000 * single.mean),
        Line(f"re-propagation / {BATCH:,} removals at once ({batch:.2f} s)", f"{whole / batch:.1f}x", ">= 3x",
             whole >= 3 * batch),
        Line("largest share of the bound that a column's true error takes", f"{(errors / bound).max():.3f}", "<= 1",
             bool((errors <= bound).all())),
    ]  # fmt: skip


def growth(quick: bool) -> list[Line]:
    """How costs grow with the graph, at the relative threshold and at the absolute one of a million nodes."""
    sizes = [10**5, 10**6] if quick else [10**5, 10**6, 10**7, 3 * 10**7]
    lines, starts, means, fixed = [], [], [], []
    for m in sizes:
        n, edges = m // DEGREE, power_law(m // DEGREE, m)
        x = gaussian(n, 32)
        gone = random_edges(edges, 800)
        spent = []
        for rmax, kept in ((RMAX, means), (RMAX * 1e6 / n, fixed)):
            propagation, took = started(x, edges, rmax)
            spent.append(took)
            single = singles(propagation, gone)
            kept.append(single.mean)
            if kept is means:
                lines.append(Line(f"m = {m:.0e}: 800 single removals", str(single)))
            del propagation
        starts.append(min(spent))
        lines.append(
            Line(f"m = {m:.0e}: start; single removals at the threshold of n = 1e6",
                 f"{starts[-1]:.3f} s; mean {1e3 * fixed[-1]:.2f} ms")
        )  # fmt: skip
    removal, same = slope(sizes, means), slope(sizes, fixed)
    return [
        *lines,
        Line("log-log slope of the mean removal", f"{removal:.2f}", "<= 0.2", removal <= 0.2),
        Line("log-log slope of the mean removal, one threshold for all sizes", f"{same:.2f}"),
        Line("log-log slope of the start", f"{slope(sizes, starts):.2f}", "about 1"),
    ]


def start(quick: bool) -> list[Line]:
    """What a start and a batch take in single precision, and the memory of it all."""
    m = 10**6 if quick else 10**7
    n, edges = m // DEGREE, power_law(m // DEGREE, m)
    x = gaussian(n, 32)
    gone = random_edges(edges, 4 * BATCH)
    drawing = peak_gb()
    spent = [started(x, edges)[1] for _ in range(2)]
    propagation, took = started(x, edges)
    spent.append(took)
    batches = batches_of(propagation, gone)
    memory = peak_gb()
    return [
        Line(f"exact start, n = {n:.0e}, m = {m:.0e}, F = 32, single precision", f"{min(spent):.2f} s", "<= 5 s",
             min(spent) <= 5),
        Line(f"{BATCH:,} removals at once", f"{min(batches):.2f} s (four: {', '.join(f'{b:.2f}' for b in batches)})",
             "<= 1 s", min(batches) <= 1),
        Line(f"peak memory, graph and features included (when they had been drawn: {drawing:.2f} GB)",
             f"{memory:.2f} GB", "<= 2.5 GB", memory <= 2.5),
    ]  # fmt: skip


def cora() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Features, scaled as the authors scale them, edges and labels; None where the file is not there."""
    path = Path(os.environ.get("UNLEARNBENCH_DATA", "")) / "cora" / "cora.npz"
    if not path.is_file():
        return None
    with np.load(path) as stored:
        x = np.zeros(stored["x_shape"], np.float32)
        x[stored["x_row"], stored["x_col"]] = stored["x_val"]
        edges, y = stored["edges"].T.astype(np.int64), stored["y"].astype(np.int64)
    scaled = StandardScaler().fit_transform(x)
    return (scaled / np.linalg.norm(scaled, axis=1).max()).astype(np.float64), edges, y


def newton(quick: bool) -> list[Line]:
    """The step after removal of an edge for all classes, with rows as many as the paper trains on."""
    del quick
    data = cora()
    if data is None:
        return [Line("Newton step on Cora", "skipped: UNLEARNBENCH_DATA has no cora/cora.npz")]
    x, edges, y = data
    rows = np.random.default_rng(0).permutation(len(x))[:1208]
    old, new = (propagate(x, e, WEIGHTS)[rows] for e in (edges, edges[:, 1:]))
    signs = np.where(y[rows][None] == np.arange(7)[:, None], 1, -1)
    ridge = 1e-2
    w = train(old, y[rows], np.zeros((7, x.shape[1])), ridge, 1e-10)

    def slopes(z: NDArray[Any]) -> NDArray[Any]:
        return -(signs / (1 + np.exp(signs * (w @ z.T)))) @ z + ridge * len(rows) * w

    delta = slopes(old) - slopes(new)

    def inverses() -> NDArray[Any]:
        steps = []
        for k in range(7):
            s = 1 / (1 + np.exp(-(new @ w[k])))
            hessian = (new * (s * (1 - s))[:, None]).T @ new + ridge * len(rows) * np.eye(x.shape[1])
            steps.append(np.linalg.inv(hessian) @ delta[k])
        return np.stack(steps)

    explicit = min(seconds(inverses) for _ in range(3))
    fast = min(seconds(lambda: newton_step(w, new, ridge, delta)) for _ in range(5))
    found, wanted = newton_step(w, new, ridge, delta), inverses()
    apart = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return [
        Line("Newton step on Cora, explicit inverse per class", f"{explicit:.2f} s"),
        Line(f"the same by conjugate gradients for all classes ({1e3 * fast:.0f} ms)", f"{explicit / fast:.0f}x",
             ">= 50x", explicit >= 50 * fast),
        Line("largest difference of the steps, of the largest entry", f"{apart:.0e}", "<= 1e-10", apart <= 1e-10),
    ]  # fmt: skip


def large(quick: bool) -> list[Line]:
    """A graph as large as a machine of 20 GB takes with ease."""
    m = 10**7 if quick else 10**8
    n, edges = m // DEGREE, power_law(m // DEGREE, m)
    x = gaussian(n, 8)
    gone = random_edges(edges, 300 + BATCH)
    drawing = peak_gb()
    propagation, spent = started(x, edges)
    del x, edges
    single = singles(propagation, gone[:, :300])
    (batch,) = batches_of(propagation, gone[:, 300:])
    memory = peak_gb()
    return [
        Line(f"n = {n:.0e}, m = {m:.0e}, F = 8: start", f"{spent:.1f} s"),
        Line("300 single removals", str(single)),
        Line(f"{BATCH:,} removals at once", f"{batch:.2f} s"),
        Line(f"peak memory, graph and features included (when they had been drawn: {drawing:.1f} GB)",
             f"{memory:.1f} GB", "<= 20 GB", memory <= 20),
    ]  # fmt: skip


def imports(quick: bool) -> list[Line]:
    """Wall time of an import that compiles, and of one that finds the kernels compiled."""
    del quick
    with tempfile.TemporaryDirectory() as folder:
        source = Path(compiling.__file__).parent
        shutil.copytree(source, Path(folder, source.name), ignore=shutil.ignore_patterns("__pycache__"))
        spent = []
        for _ in range(3):
            began = perf_counter()
            program = "import unlearnbench_scalegun.propagation"
            subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": folder}, check=True)
            spent.append(perf_counter() - began)
    return [
        Line("first import, wall time with compilation", f"{spent[0]:.1f} s", "<= 60 s", spent[0] <= 60),
        Line("later imports, wall time", f"{min(spent[1:]):.1f} s"),
    ]


PARTS = {
    "imports": imports, "update": update, "growth": growth, "start": start, "newton": newton, "large": large,
}  # fmt: skip


def main() -> int:
    """Print what each part measured; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be given again")
    parser.add_argument("--quick", action="store_true", help="graphs a tenth of the size; targets are for full size")
    arguments = parser.parse_args()
    print(f"numba {numba.__version__}, numpy {np.__version__}, scipy {scipy.__version__}", end=", ")
    print(f"python {platform.python_version()}; CPU time, one thread; single removals one at a time")
    missed = False
    for part in arguments.part or PARTS:
        before = os.getloadavg()[0]
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            lines = pool.submit(PARTS[part], arguments.quick).result()
        print(f"\n{part} (load {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores)")
        for line in lines:
            verdict = "" if line.fine is None else "fine" if line.fine else "MISSED"
            print(f"  {line.what:<86} {line.measured:<52} {line.target:<10} {verdict}".rstrip(), flush=True)
            missed |= line.fine is False
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
