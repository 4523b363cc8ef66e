"""The contract of unlearners in a stream: requests that are served one after the other by what the last one left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unlearnbench.api.runtime import jensen_shannon
from unlearnbench.api.specs import ITEM_REQUESTS
from unlearnbench.parts import Selection
from unlearnbench.phases import unpack
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry
from unlearnbench.testing.bench import Bench, same_bits
from unlearnbench.testing.contract import Check, NotApplicable, require
from unlearnbench.testing.problems import NEXT

FEW: Mapping[str, Any] = {"kind": "samples", "count": 3, "seed": 1}
NEARER = 0.9
"""Share of the distance to gold that may be left; less of a change also comes from weight decay alone."""
BACK = 0.5
"""Share of what was forgotten that may come back: training on others moves every prediction a little."""


def stream(bench: Bench, task: str = "") -> RunSpec:
    """A run of two requests of the first kind that is declared for the task."""
    combinations = bench.combinations()
    task = task or next(iter(combinations), ("", ""))[0]
    kind = next((r for t, r in combinations if t == task), "")
    return bench.run_spec(task, kind, then=NEXT.get(kind))


def serves_a_stream(bench: Bench) -> None:
    """A second request is served by what the first one left, for every declared task."""
    for task in dict.fromkeys(task for task, _ in bench.combinations()):
        weights = bench.stages().unlearned(stream(bench, task), 1).weights
        bad = [k for k, v in weights.items() if v.is_floating_point() and not bool(v.isfinite().all())]
        require(not bad, f"{task}: {', '.join(bad[:3])} not finite after the second request")


def a_stream_goes_on_from_the_store(bench: Bench) -> None:
    """A stream that goes on from the store gives the same bits as one that is served in a go."""
    spec = stream(bench)
    _forget_both(bench, spec)
    stages = bench.stages()
    stages.unlearned(spec, 0)
    at_once = stages.unlearned(spec, 1)
    _drop(bench, at_once)
    resumed = bench.stages().unlearned(spec, 1)
    differ = _differences(at_once.weights, resumed.weights)
    if at_once.state is not None and resumed.state is not None:
        differ += [f"state {name}" for name in _differences(at_once.state.tensors, resumed.state.tensors)]
    require(not differ, f"{', '.join(differ[:3])} differ: is something kept outside the state, or changed by JSON?")


def _forget_both(bench: Bench, spec: RunSpec) -> None:
    stages = bench.stages()
    for step in (0, 1):
        _drop(bench, stages.unlearned(spec, step))


def _drop(bench: Bench, entry: Entry) -> None:
    bench.stages().store.drop("unlearn", entry.key)


def _differences(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    return [name for name, value in first.items() if name not in other or not same_bits(value, other[name])]


def keeps_no_forgotten_row(bench: Bench) -> None:
    """What is left for the next request, model and state, holds no row that was forgotten."""
    wanted = [(t, r) for t, r in bench.combinations() if r in ITEM_REQUESTS and t != "node-classification"]
    if not wanted:
        raise NotApplicable("rows are not what it forgets")
    task, kind = wanted[0]
    spec, stages = bench.run_spec(task, kind, then=NEXT[kind]), bench.stages()
    for step in (0, 1):
        entry = stages.unlearned(spec, step)
        held = {**entry.weights, **{f"state {k}": v for k, v in unpack(entry.state, 0).tensors.items()}}
        gone = stages.scene(spec).parts[step].measured["forget"]
        rows = [_bits(row) for row in gone.data.x[gone.index]]
        kept = [name for name, value in held.items() if any(row in _bits(value.to(gone.data.x.dtype)) for row in rows)]
        require(not kept, f"after request {step}, {', '.join(kept[:3])} holds forgotten rows")


def _bits(tensor: Tensor) -> bytes:
    found: bytes = tensor.detach().cpu().contiguous().numpy().tobytes()
    return found


def what_is_forgotten_stays_forgotten(bench: Bench) -> None:
    """What the first request of a stream made forget does not come back with the second."""
    if not {("classification", "class"), ("classification", "samples")} <= set(bench.combinations()):
        raise NotApplicable("forgets no classes, or no samples")
    spec, stages = bench.run_spec("classification", "class", then=FEW), bench.stages()
    forgotten = stages.scene(spec).parts[0].measured["forget"]
    before = _distance(stages, spec, 0, stages.original(spec), forgotten)
    first, second = (_distance(stages, spec, step, stages.unlearned(spec, step), forgotten) for step in (0, 1))
    if not first < NEARER * before:
        raise NotApplicable("the first request does not bring it clearly nearer to gold")
    limit = first + BACK * (before - first)
    require(
        second < limit,
        f"Jensen-Shannon divergence to gold: {before:.3f} before, {first:.3f} after the first request, "
        f"{second:.3f} after the second",
    )


def _distance(stages: Stages, spec: RunSpec, step: int, entry: Entry, rows: Selection) -> float:
    found, gold = (
        stages.outputs(one, rows, stages.scene(spec)).double().softmax(1) for one in (entry, stages.gold(spec, step))
    )
    return float(jensen_shannon(found, gold).mean())


CHECKS: tuple[Check, ...] = (
    serves_a_stream,
    a_stream_goes_on_from_the_store,
    keeps_no_forgotten_row,
    what_is_forgotten_stays_forgotten,
)
