"""The contract of data sets, one function a sentence."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, TASKS, Splits, present
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.scenes import load_dataset
from unlearnbench.spec import Choice
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Check, NotApplicable, require

_PROGRAM = """
import json, sys
from unlearnbench.registry import registry
from unlearnbench.scenes import load_dataset
from unlearnbench.spec import Choice
splits, _ = load_dataset(registry(), Choice(sys.argv[1], json.loads(sys.argv[2])))
print(splits.train.digest(), splits.test.digest())
"""


def _load(bench: Bench) -> tuple[Splits, Choice]:
    params = parameters_json(resolve_parameters(bench.spec.params, {}, where=bench.spec.name))
    choice = Choice(bench.spec.name, params)
    try:
        return load_dataset(bench.registry, choice)[0], choice
    except DataError as problem:
        raise NotApplicable(f"its files are not here: {problem.message}") from problem
    except UsageError as problem:
        raise NotApplicable(f"its defaults name no data: {problem.message}") from problem


def same_bits_in_every_process(bench: Bench) -> None:
    """Two processes read the same data, bit by bit."""
    splits, choice = _load(bench)
    arguments = [choice.name, json.dumps(choice.params)]
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"a fresh process cannot read it: {done.stderr.strip().splitlines()[-1:]}")
    require(done.stdout.split() == [splits.train.digest(), splits.test.digest()], "digests differ between processes")


def splits_share_no_row(bench: Bench) -> None:
    """No row is in two of training, validation and test."""
    splits, _ = _load(bench)
    if splits.train.edges is not None:
        both = (splits.train.y != MISSING) & (splits.test.y != MISSING)
        require(not bool(both.any()), "nodes are annotated in training and in test")
        return
    ids = torch.cat([part.ids for part in (splits.train, splits.validation, splits.test) if part is not None])
    require(len(ids.unique()) == len(ids), "ids stand in two splits")


def splits_agree(bench: Bench) -> None:
    """All splits have the same outputs and rows of the same shape and type."""
    splits, _ = _load(bench)
    for part in (splits.validation, splits.test):
        if part is not None:
            require(part.outputs == splits.train.outputs, "names of outputs differ")
            require(part.row_shape == splits.train.row_shape, "shapes of rows differ")
            require((part.x.dtype, part.y.dtype) == (splits.train.x.dtype, splits.train.y.dtype), "types differ")


def annotations_are_in_range(bench: Bench) -> None:
    """Every annotation names an output, and every output is annotated somewhere in training."""
    splits, _ = _load(bench)
    y, outputs = splits.train.y, splits.train.outputs
    if "detection" in bench.spec.tasks and y.ndim == 3:
        faults = [TASKS["detection"].find_fault(part.x, part.y, len(outputs)) for part in (splits.train, splits.test)]
        require(faults == [None, None], f"{faults}")
        empty = set(range(len(outputs))) - set(y[..., 4][present(y)].long().tolist())
        require(not empty, f"no training row shows {[outputs[k] for k in sorted(empty)][:3]}")
        return
    if y.is_floating_point():
        known = y[~y.isnan()]
        require(bool(((known == 0) | (known == 1)).all()), "labels are neither 0 nor 1")
        return
    known = y[y != MISSING]
    require(int(known.min()) >= 0 and int(known.max()) < len(outputs), f"{len(outputs)} outputs, but y is out of range")
    empty = set(range(len(outputs))) - set(known.unique().tolist())
    require(not empty, f"no training row is of {[outputs[k] for k in sorted(empty)][:3]}")


def inputs_are_finite(bench: Bench) -> None:
    """Inputs are of the declared kind: finite floating-point numbers, also of the nodes of graphs, or token ids."""
    splits, _ = _load(bench)
    for part in (splits.train, splits.test):
        found = part.x if part.graphs is None else part.graphs.nodes
        kind = "graphs" if part.graphs is not None else "numbers" if found.is_floating_point() else "tokens"
        require(kind in bench.spec.inputs, f"inputs are {kind}, but {', '.join(bench.spec.inputs)} are declared")
        if kind == "tokens":
            require(found.dtype == torch.int64 and bool((found >= 0).all()), "token ids are not int64 from 0")
        else:
            require(found.is_floating_point() and bool(found.isfinite().all()), "inputs are not finite floats")


CHECKS: tuple[Check, ...] = (
    same_bits_in_every_process,
    splits_share_no_row,
    splits_agree,
    annotations_are_in_range,
    inputs_are_finite,
)
