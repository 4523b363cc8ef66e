"""The contract of unlearners, one function a sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.recipe import Recipe
from unlearnbench.api.runtime import Meter, UnlearnJob, View, jensen_shannon
from unlearnbench.plan import check
from unlearnbench.store import apart
from unlearnbench.testing import conduct, streams
from unlearnbench.testing.bench import Bench, same_bits
from unlearnbench.testing.conduct import epochs
from unlearnbench.testing.contract import Check, NotApplicable, require
from unlearnbench.testing.problems import KINDS, PROBLEMS, REQUESTS, possible
from unlearnbench.testing.streams import NEARER
from unlearnbench.testing.watch import hooked

SHARE_HELD = 0.5


def weights_change(bench: Bench) -> None:
    """The returned model's weights are not the original's."""
    served = bench.serve(bench.run_spec())
    require(served.changed(), "every weight and buffer is bit-identical to the original's")


def optimisers_own_the_returned_model(bench: Bench) -> None:
    """An optimiser that steps has parameters of the model that is returned."""
    served = bench.serve(bench.run_spec())
    if not served.stepped:
        raise NotApplicable("no optimiser stepped")
    mine = {id(p) for p in served.result.model.parameters()}
    require(served.stepped & mine, "optimisers stepped, but on no parameter of the returned model")


def serves_every_declared_combination(bench: Bench) -> None:
    """Every declared task with every declared request gives a model with finite weights."""
    for task, request in bench.combinations():
        served = bench.serve(bench.run_spec(task, request))
        bad = [k for k, v in served.after.items() if v.is_floating_point() and not bool(v.isfinite().all())]
        require(not bad, f"{task} with {request}: {', '.join(bad[:3])} not finite")


def refuses_what_it_does_not_declare(bench: Bench) -> None:
    """A task or request that is not declared is refused before any work."""
    declared = bench.combinations()
    others = [(t, r) for t in PROBLEMS for r in REQUESTS if (t, r) not in declared and possible(t, r)]
    if not others:
        raise NotApplicable("declares everything")
    for task, request in others:
        spec = bench.tiny(PROBLEMS[task][0], REQUESTS[request], bench.spec.name)
        try:
            check(spec, bench.registry)
        except IncompatibleError:
            continue
        require(False, f"{task} with {request} is not declared, yet planned")


def serves_every_declared_input(bench: Bench) -> None:
    """Every declared kind of input is served, tokens and whole graphs too, and no other is planned."""
    requests = [request for task, request in bench.combinations() if task == "classification"]
    if not requests:
        raise NotApplicable("does not serve classification")
    refusals = []
    for kind, problem in KINDS.items():
        spec = bench.tiny(problem, REQUESTS[requests[0]], bench.spec.name)
        planned = True
        try:
            check(spec, bench.registry)
        except IncompatibleError:
            planned = False
        declared = kind in bench.spec.inputs
        require(
            planned == declared,
            f"{kind} are declared, yet refused" if declared else f"{kind} are not declared, yet planned",
        )
        if not declared:
            continue
        try:
            bench.stages().check(spec)
        except IncompatibleError as refusal:  # of this network, with a reason
            refusals.append(refusal.message)
            continue
        served = bench.serve(spec)
        bad = [k for k, v in served.after.items() if v.is_floating_point() and not bool(v.isfinite().all())]
        require(not bad, f"{kind}: {', '.join(bad[:3])} not finite")
        require(bench.outputs(served, "retain").isfinite().all(), f"{kind}: outputs are not finite")
    if len(refusals) == len(bench.spec.inputs):
        raise NotApplicable("; ".join(refusals))


def keeps_the_output_interface(bench: Bench) -> None:
    """The returned model has the original's outputs: as many, of the same shape."""
    for task in {task for task, _ in bench.combinations()}:
        served = bench.serve(bench.run_spec(task))
        original = bench.stages().original(bench.run_spec(task))
        split = served.scene.parts[0].measured["retain"]
        expected = bench.stages().outputs(original, split, served.scene)
        found = bench.outputs(served, "retain")
        require(found.shape == expected.shape, f"{task}: outputs {list(found.shape)} instead of {list(expected.shape)}")


def leaves_the_model_ready(bench: Bench) -> None:
    """The returned model is in evaluation mode, every parameter trains, and no gradient or hook is left."""
    served = bench.serve(bench.run_spec())
    model = served.result.model
    require(not served.training, "it comes back in training mode")
    require(not served.frozen, f"{', '.join(served.frozen[:3])} come back without requires_grad")
    require(all(p.grad is None for p in model.parameters()), "gradients are left on it")
    require(not hooked(model), f"hooks are left on {', '.join(hooked(model)[:3])}")


def holds_masked_weights(bench: Bench) -> None:
    """Weights outside a mask of an earlier stage stay bit-identical, under weight decay and momentum too."""
    settings = {"weight_decay": 0.1, "momentum": 0.9} if issubclass(bench.spec.params, Recipe) else {}
    spec = bench.run_spec(params=settings)
    plain = bench.serve(spec)
    rng = torch.Generator().manual_seed(0)
    names = [name for name, _ in plain.result.model.named_parameters()]
    mask = {
        name: torch.rand(value.shape, generator=rng) < SHARE_HELD
        for name, value in plain.before.items()
        if name in names
    }
    if not mask:
        raise NotApplicable("the returned network is another one")
    served = bench.serve(spec, mask=mask)
    after = served.after
    require(after.keys() == served.before.keys(), "under a mask it returns another network")
    moved = [name for name, keep in mask.items() if not same_bits(served.before[name][~keep], after[name][~keep])]
    require(not moved, f"masked entries of {', '.join(moved[:3])} moved; was a copy trained?")


def holds_its_own_mask(bench: Bench) -> None:
    """A mask that is returned was obeyed: the weights outside it are the original's, bit by bit."""
    settings = {"weight_decay": 0.1, "momentum": 0.9} if issubclass(bench.spec.params, Recipe) else {}
    served = bench.serve(bench.run_spec(params=settings))
    mask = served.result.mask
    if mask is None:
        raise NotApplicable("returns no mask")
    after = served.after
    moved = [
        name for name, keep in mask.items() if not same_bits(served.before[name][~keep.cpu()], after[name][~keep.cpu()])
    ]
    require(not moved, f"entries of {', '.join(moved[:3])} outside its mask moved")


def same_seed_same_result(bench: Bench) -> None:
    """The same seed gives the same bits."""
    spec = bench.run_spec()
    first = bench.serve(spec)
    again = bench.serve(spec, meter=Meter())
    differ = [name for name, value in first.after.items() if not same_bits(value, again.after[name])]
    require(not differ, f"{', '.join(differ[:3])} differ between two runs with one seed")


def other_seed_other_result(bench: Bench) -> None:
    """Another seed gives another result, if anything is drawn."""
    first, other = bench.serve(bench.run_spec()), bench.serve(bench.run_spec(seed=1))
    ordered = issubclass(bench.spec.params, Recipe) and "row-order" not in bench.spec.invariant_to
    if not first.drew and not ordered:
        raise NotApplicable("draws nothing")
    same = first.after.keys() == other.after.keys()
    differ = [k for k, v in first.after.items() if same and not same_bits(v, other.after[k])]
    require(not same or differ, "two seeds give the same bits: is the seed of the job used?")


def zero_epochs_change_nothing(bench: Bench) -> None:
    """With all its epochs set to 0 it returns the original, buffers included."""
    settings = epochs(bench, 0)
    changed = bench.serve(bench.run_spec(params=settings)).changed()
    require(not changed, f"{', '.join(changed[:3])} changed although {', '.join(settings)} are 0")


def each_epoch_reads_the_same(bench: Bench) -> None:
    """The first epoch reads as many rows as the second."""
    totals = [sum(bench.serve(bench.run_spec(params=epochs(bench, n))).rows.values()) for n in (0, 1, 2)]
    first, second = totals[1] - totals[0], totals[2] - totals[1]
    require(first == second and first > 0, f"rows read with 0, 1 and 2 epochs: {totals}")


def serves_any_size(bench: Bench) -> None:
    """A forget set of one row, of less than a batch, and of nearly everything is served, and none is passed over."""
    if "samples" not in bench.spec.requests:
        raise NotApplicable("serves no samples")
    task = bench.combinations()[0][0]
    for count in (1, 5, 35 if task == "node-classification" else 55):
        spec = bench.run_spec(task, {"kind": "samples", "count": count, "seed": 0})
        served = bench.serve(spec)
        finite = all(bool(v.isfinite().all()) for v in served.after.values() if v.is_floating_point())
        require(finite, f"weights are not finite with a forget set of {count}")
        if served.rows.get("forget"):
            other = bench.serve(spec, change=_with_other_inputs).after
            same = all(same_bits(value, other[name]) for name, value in served.after.items())
            require(not same, f"the rows of a forget set of {count} make no difference: are batches dropped?")


def _with_other_inputs(job: UnlearnJob) -> None:
    """The forget set has the same rows with other inputs."""
    view = job.forget
    data = replace(view._data, x=-view._data.x)
    job.forget = View(data, view._index, name=view.name, meter=view._meter, locked=view._locked, elements=view.elements)


def reads_what_it_declares(bench: Bench) -> None:
    """Every view that is declared in reads is read, and no other."""
    spec = bench.run_spec()
    served = bench.serve(spec)
    unread = [name for name in bench.spec.reads if name in ("forget", "retain") and not served.rows.get(name)]
    require(not unread, f"declares {', '.join(unread)} and never reads it")


def writes_into_nothing_shared(bench: Bench) -> None:
    """Data that all phases share are the same afterwards, however they were written to."""
    for task in {task for task, _ in bench.combinations()}:
        spec = bench.run_spec(task)
        fresh = bench.stages().scene(spec).shared
        served = bench.serve(spec).scene.shared
        same = all(same_bits(a, b) for a, b in zip(fresh, served, strict=True))
        require(same, f"{task}: shared data were changed")


def result_survives_the_store(bench: Bench) -> None:
    """The stored result, read back, predicts what the returned model predicts."""
    spec = bench.run_spec()
    served = bench.serve(spec)
    stages = bench.stages()
    entry = stages.unlearned(spec)
    found = stages.outputs(entry, served.scene.parts[0].measured["retain"], served.scene)
    require(torch.allclose(found, bench.outputs(served, "retain").float(), atol=1e-5), "outputs differ")
    for what in (served.result.certificate, apart(served.result.artifacts)[1]):
        json.dumps(what, allow_nan=False)


def comes_nearer_to_gold(bench: Bench) -> None:
    """After a class is forgotten, predictions on its rows are clearly nearer to gold's than before."""
    if ("classification", "class") not in bench.combinations():
        raise NotApplicable("forgets no classes")
    spec = bench.run_spec("classification", "class")
    served, stages = bench.serve(spec), bench.stages()
    split = served.scene.parts[0].measured["forget"]
    gold, original = (
        stages.outputs(entry, split, served.scene).double().softmax(1)
        for entry in (stages.gold(spec), stages.original(spec))
    )
    before = float(jensen_shannon(original, gold).mean())
    after = float(jensen_shannon(bench.outputs(served).double().softmax(1), gold).mean())
    require(after < NEARER * before, f"Jensen-Shannon divergence to gold: {before:.3f} before, {after:.3f} after")


CHECKS: tuple[Check, ...] = (
    weights_change,
    optimisers_own_the_returned_model,
    serves_every_declared_combination,
    refuses_what_it_does_not_declare,
    serves_every_declared_input,
    keeps_the_output_interface,
    leaves_the_model_ready,
    holds_masked_weights,
    holds_its_own_mask,
    same_seed_same_result,
    other_seed_other_result,
    zero_epochs_change_nothing,
    each_epoch_reads_the_same,
    serves_any_size,
    reads_what_it_declares,
    writes_into_nothing_shared,
    result_survives_the_store,
    comes_nearer_to_gold,
    *conduct.CHECKS,
    *streams.CHECKS,
)
