"""Relearn times by hand, against a loop of plain torch, and the mistakes that published evaluations made."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hand_evidence import HandEvidence, rows, shuffled_rows
from hand_jobs import bits, perceptron
from torch import Tensor, nn

from unlearnbench.api.runtime import SUBJECTS, Data, Reading, Request, drawn_rows, generator
from unlearnbench_relearning.measures import Ain, Relearn, WfnetRelearn, drawn_parts, index
from unlearnbench_relearning.plugin import AinParams, RelearnParams, WfnetRelearnParams
from unlearnbench_relearning.training import Score, Time, course, look, score, steps, time_until
from unlearnbench_relearning.watched import Watched, fixed

P = RelearnParams(lr=0.02, batch_size=4, epochs=100, curve=(0, 1, 3, 7))


def problem(forget: int = 10, retain: int = 21, holdout: int = 8) -> dict[str, Data]:
    """Rows whose class is a linear function of the inputs, so that they can be learned and generalise."""
    rng, total = generator(5), forget + retain + holdout
    x = torch.randn(total, 4, generator=rng, dtype=torch.float64)
    y = (x @ torch.randn(4, 3, generator=rng, dtype=torch.float64)).argmax(1)
    parts = zip(("forget", "retain", "holdout"), x.split([forget, retain, holdout]), strict=True)
    y_of = dict(zip(("forget", "retain", "holdout"), y.split([forget, retain, holdout]), strict=True))
    return {name: rows(x_of, y_of[name], 100 * (i + 1)) for i, (name, x_of) in enumerate(parts)}


def trained(model: nn.Module, *parts: Data, steps: int = 25) -> nn.Module:
    x, y = torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


DATA = problem()
ORIGINAL = trained(perceptron(1), DATA["forget"], DATA["retain"])
GOLD = perceptron(2)


def evidence(**changes: Any) -> HandEvidence:
    models = {"original": ORIGINAL, "gold": GOLD, "unlearned": perceptron(3)}
    models |= {name: changes.pop(name) for name in tuple(models) if name in changes}
    return HandEvidence(data=changes.pop("data", DATA), models=models, **changes)


def read(measure: Any, found: HandEvidence) -> dict[str, Reading]:
    return {reading.key: reading for reading in measure.measure(found)}


def values(readings: dict[str, Reading]) -> dict[str, tuple[float | None, str]]:
    return {key: (reading.value, reading.status) for key, reading in readings.items()}


def by_hand(model: nn.Module, p: RelearnParams, steps: int) -> list[tuple[float, float]]:
    """Accuracy and loss after each step, in a loop of its own: batches of the forget set in the order of the stream."""
    x, y = DATA["forget"].x, DATA["forget"].y
    model = deepcopy(model)
    optimizer, order = torch.optim.Adam(model.parameters(), lr=p.lr), evidence().rng("order")
    found = []

    def look() -> None:
        with torch.no_grad():
            log_p = torch.log_softmax(model(x), 1)
        picked = [float(log_p[i, label]) for i, label in enumerate(y.tolist())]
        found.append((float((log_p.argmax(1) == y).double().mean()), -math.fsum(picked) / len(y)))

    look()
    while True:
        for batch in torch.randperm(len(x), generator=order).split(p.batch_size):
            if len(found) > steps:
                return found
            optimizer.zero_grad()
            (-torch.log_softmax(model(x[batch]), 1)[torch.arange(len(batch)), y[batch]].mean()).backward()
            optimizer.step()
            look()


def test_times_and_curve_equal_a_loop_of_plain_torch() -> None:
    found, cap = read(Relearn(P), evidence()), 100 * 3
    course_by_hand, (target, least) = by_hand(perceptron(3), P, cap), by_hand(ORIGINAL, P, 0)[0]
    accuracy_steps = next(k for k, (accuracy, _) in enumerate(course_by_hand) if accuracy >= 0.95 * target)
    loss_steps = next(k for k, (_, loss) in enumerate(course_by_hand) if loss <= 1.05 * least)
    assert 0 < accuracy_steps < loss_steps < cap
    assert found["relearn-steps.forget"].value == accuracy_steps
    assert found["relearn-epochs.forget"].value == accuracy_steps / 3
    assert found["relearn-loss-steps.forget"].value == loss_steps
    assert found["relearn-loss-epochs.forget"].value == loss_steps / 3
    assert found["relearn-cap.forget"].value == cap
    for step in P.curve:
        accuracy, loss = course_by_hand[step]
        assert found[f"relearn-accuracy.forget.step={step}"].value == accuracy
        assert found[f"relearn-loss.forget.step={step}"].value == pytest.approx(loss, abs=1e-12)


def test_an_untouched_original_needs_no_steps() -> None:
    """Code that takes a step before it looks says 1."""
    found = read(Relearn(P), evidence(unlearned=ORIGINAL))
    for name in ("relearn-steps", "relearn-epochs", "relearn-loss-steps", "relearn-loss-epochs"):
        assert values(found)[f"{name}.forget"] == (0.0, "ok")
    assert values(read(WfnetRelearn(WfnetRelearnParams()), evidence(unlearned=ORIGINAL)))[
        "wfnet-relearn-epochs.forget"
    ] == (0.0, "ok")
    assert values(read(Ain(AinParams()), evidence(unlearned=ORIGINAL)))["ain-steps.forget"] == (0.0, "ok")


MEASURES = [
    Relearn(P),
    Ain(AinParams(lr=0.02, batch_size=8)),
    WfnetRelearn(WfnetRelearnParams(lr=0.02, batch_size=8, samples=16)),
]


def marked_by_its_method(model: nn.Module) -> nn.Module:
    """The same weights as a method may leave them: a frozen layer, stale gradients, training mode."""
    model = deepcopy(model).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_weights_need_equal_times_whatever_method_left_them(measure: Any) -> None:
    """With the unlearner's own optimiser and its frozen layers one model read 8, 10, 70 and 100 epochs."""
    plain = values(read(measure, evidence()))
    assert values(read(measure, evidence(unlearned=marked_by_its_method(perceptron(3))))) == plain
    as_gold = evidence(subject="gold", gold=perceptron(3))
    assert values(read(measure, as_gold)) == plain
    frozen = evidence(unlearned=perceptron(3).requires_grad_(False))
    assert values(read(measure, frozen)) == plain


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_in_which_rows_are_stored_does_not_matter(measure: Any) -> None:
    other = evidence(data={name: shuffled_rows(data)[0] for name, data in DATA.items()})
    for key, (value, status) in values(read(measure, evidence())).items():
        again = values(read(measure, other))[key]
        assert again == (pytest.approx(value, abs=1e-12), status), key


@pytest.mark.parametrize("measure", MEASURES)
def test_the_subject_stays_as_it_was(measure: Any) -> None:
    found = evidence(unlearned=nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double().eval())
    before = {name: bits(model) for name, model in found.models.items()}
    read(measure, found)
    assert {name: bits(model) for name, model in found.models.items()} == before


@pytest.mark.parametrize("measure", MEASURES)
def test_draws_of_layers_are_the_measures_own(measure: Any) -> None:
    """Dropout draws from a stream of the measure: neither read from nor written to the state of the process."""
    net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double().eval()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = values(read(measure, evidence(unlearned=net)))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert values(read(measure, evidence(unlearned=net))) == first


def test_a_time_beyond_the_cap_is_censored_and_the_cap_is_told() -> None:
    """A cap that is counted as a time makes hopeless subjects look alike and averages wrong."""
    found = values(read(Relearn(replace(P, lr=1e-9, epochs=2)), evidence()))
    for name in ("relearn-steps", "relearn-epochs", "relearn-loss-steps", "relearn-loss-epochs"):
        assert found[f"{name}.forget"] == (None, "censored")
    assert found["relearn-cap.forget"] == (6.0, "ok")
    found = values(read(WfnetRelearn(WfnetRelearnParams(lr=1e-9, epochs=3)), evidence()))
    assert found["wfnet-relearn-epochs.forget"] == (None, "censored")
    assert found["wfnet-relearn-cap.forget"] == (3.0, "ok")
    found = values(read(Ain(AinParams(lr=1e-9, epochs=2, batch_size=8)), evidence()))
    assert found["ain-steps.forget"] == (None, "censored")
    assert found["ain-cap.forget"] == (8.0, "ok")


def test_the_curve_goes_on_beyond_the_cap_and_the_goals() -> None:
    """A step of the curve past the last goal is still taken, and a goal that is reached past the cap is censored."""
    long = Relearn(replace(P, epochs=1, curve=(5,)))
    found, by_step = read(long, evidence()), by_hand(perceptron(3), P, 5)
    assert found["relearn-accuracy.forget.step=5"].value == by_step[5][0]
    late = RelearnParams(lr=0.02, batch_size=4, epochs=1, curve=(60,), margin=0.5)
    assert by_hand(perceptron(3), late, 60)[60][0] >= 0.5
    assert values(read(Relearn(late), evidence()))["relearn-loss-steps.forget"] == (None, "censored")
    repeated = [r.key for r in Relearn(replace(P, curve=(2, 1, 2))).measure(evidence())]
    assert len(repeated) == len(set(repeated))


def test_every_layer_moves() -> None:
    """What is trained is the whole network; a first layer that came frozen included."""
    model = marked_by_its_method(perceptron(3))
    before = [p.detach().clone() for p in model.parameters()]
    view = evidence().view("forget")
    assert list(steps(model, evidence().task, fixed("adam", 0.01), [view.batches(5)], generator(0))) == [1, 2]
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_steps_are_taken_in_training_mode_and_looks_in_evaluation_mode() -> None:
    """Batch normalisation counts what it is trained on: the two steps, and none of the looks between them."""
    model, found = nn.Sequential(nn.BatchNorm1d(4), perceptron(3)).double(), evidence()
    view = found.view("forget")
    for taken in steps(model, found.task, fixed("adam", 0.01), [view.batches(5)], generator(0)):
        look(model, found.task, view, view.tensors().y)
        assert int(model[0].num_batches_tracked) == taken
    assert taken == 2


def test_wfnet_draws_new_rows_for_every_epoch_from_the_whole_training_set() -> None:
    found = evidence()
    forget, retain = found.view("forget"), found.view("retain")
    ids, rng, again = torch.cat([forget.ids, retain.ids]), generator(3), generator(3)
    drawn = []
    for _ in range(3):
        first, second = drawn_parts(forget, retain, 12, rng)
        drawn.append(torch.cat([first.ids, second.ids]).tolist())
        assert sorted(drawn[-1]) == ids[drawn_rows(ids, 12, again)].tolist()
        assert set(first.ids.tolist()) <= set(forget.ids.tolist())
        assert set(second.ids.tolist()) <= set(retain.ids.tolist())
    assert len({tuple(row) for row in drawn}) == 3
    assert all(len(set(row)) == 12 for row in drawn)


def test_wfnet_counts_epochs_of_that_many_rows() -> None:
    """Looked at after every step, the goal would be seen earlier than at the end of an epoch."""
    p = WfnetRelearnParams(lr=0.02, batch_size=8, samples=20)
    found = evidence()
    value = read(WfnetRelearn(p), found)["wfnet-relearn-epochs.forget"].value
    model, goal = found.model(), score(found.task, found.outputs("forget", "original"), found.y("forget")).accuracy
    optimizer, rng = torch.optim.Adam(model.parameters(), lr=p.lr), found.rng("rows")
    x, y = (torch.cat([getattr(DATA[name], c) for name in ("forget", "retain")]) for c in ("x", "y"))
    ids, epoch = torch.cat([DATA["forget"].ids, DATA["retain"].ids]), 0

    def accuracy() -> float:
        with torch.no_grad():
            return float((model(DATA["forget"].x).argmax(1) == DATA["forget"].y).double().mean())

    while accuracy() < goal:
        epoch += 1
        drawn = drawn_rows(ids, 20, rng)
        for batch in drawn[torch.randperm(20, generator=rng)].split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    assert epoch > 1
    assert value == epoch


def ain_of(p: AinParams, **changes: Any) -> dict[str, tuple[float | None, str]]:
    """The index by subject, through measure() for each and summarise()."""
    readings = [
        replace(reading, subject=subject)
        for subject in SUBJECTS
        for reading in Ain(p).measure(evidence(subject=subject, **changes))
    ]
    return {r.subject: (r.value, r.status) for r in Ain(p).summarise(readings)}


def test_the_index_is_steps_over_golds_steps() -> None:
    p = AinParams(lr=0.02, batch_size=8, epochs=40)
    taken = {s: read(Ain(p), evidence(subject=s))["ain-steps.forget"].value for s in SUBJECTS}
    found = ain_of(p)
    assert len(set(taken.values())) == 3
    assert found["unlearned"] == (taken["unlearned"] / taken["gold"], "ok")
    assert found["gold"] == (1.0, "ok")
    assert found["original"] == (0.0, "ok")


def test_the_index_is_undefined_when_gold_needs_no_steps() -> None:
    """(r + .01) / (0 + .01) reads 301 for 3 steps."""
    found = ain_of(AinParams(), gold=ORIGINAL)
    assert set(found.values()) == {(None, "gold needs no steps")}


def test_the_index_is_undefined_when_gold_is_censored() -> None:
    found = ain_of(AinParams(lr=1e-9))
    assert set(found.values()) == {(None, "gold censored")}


@pytest.mark.parametrize(
    ("mine", "gold", "expected"),
    [
        ((6.0, "ok"), (12.0, "ok"), (0.5, "ok")),
        ((0.0, "ok"), (12.0, "ok"), (0.0, "ok")),
        ((None, "censored"), (12.0, "ok"), (None, "censored")),
        ((None, "censored"), (None, "censored"), (None, "gold censored")),
        ((3.0, "ok"), (0.0, "ok"), (None, "gold needs no steps")),
        ((3.0, "ok"), (None, "non-finite"), (None, "non-finite")),
        ((None, "empty split"), (None, "empty split"), (None, "empty split")),
    ],
)
def test_a_ratio_of_two_times(
    mine: tuple[float | None, str], gold: tuple[float | None, str], expected: tuple[float | None, str]
) -> None:
    def reading(time: tuple[float | None, str]) -> Reading:
        return Reading("ain-steps", time[0], 5, status=time[1])

    assert index(reading(mine), reading(gold)) == expected


def test_the_index_of_each_request_of_a_stream_is_beside_its_own_gold() -> None:
    def reading(subject: str, request: str, value: float) -> Reading:
        return Reading("ain-steps", value, 5, at={"request": request}, subject=subject)

    times = [
        reading("gold", "0", 10.0),
        reading("unlearned", "0", 5.0),
        reading("gold", "1", 4.0),
        reading("unlearned", "1", 8.0),
    ]
    found = {(r.subject, r.at["request"]): r.value for r in Ain(AinParams()).summarise(times)}
    assert found == {("gold", "0"): 1.0, ("unlearned", "0"): 0.5, ("gold", "1"): 1.0, ("unlearned", "1"): 2.0}


def test_a_forgotten_class_is_watched_on_unseen_rows_and_forgotten_rows_on_themselves() -> None:
    """The index is about the class's validation rows; unseen rows tell nothing where rows are forgotten."""
    whole_class = Request("class", "0" * 64, classes=(1,))
    assert set(read(Ain(AinParams()), evidence(request=whole_class))) == {"ain-steps.holdout", "ain-cap.holdout"}
    assert set(read(Ain(AinParams()), evidence())) == {"ain-steps.forget", "ain-cap.forget"}
    assert "ain-steps.holdout" in read(Ain(AinParams(judged="holdout")), evidence())
    assert "ain-steps.forget" in read(Ain(AinParams(judged="forget")), evidence(request=whole_class))


def test_the_index_trains_on_forget_and_retain_rows_and_never_on_the_unseen_ones() -> None:
    p, whole_class = AinParams(lr=0.02, batch_size=8, epochs=3), Request("class", "0" * 64, classes=(1,))
    seen: list[Tensor] = []
    model = perceptron(3)

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(x)
            return self.net(x)

    read(Ain(replace(p, alpha=0.0, lr=1e-9)), evidence(unlearned=Watching(), request=whole_class))
    trained_on = {tuple(row) for x in seen for row in x.tolist()}
    expected = {tuple(row) for name in ("forget", "retain") for row in DATA[name].x.tolist()}
    assert trained_on == expected
    assert [len(x) for x in seen] == [8, 8, 8, 7] * 3


@pytest.mark.parametrize("measure", MEASURES)
def test_outputs_that_are_no_numbers_are_a_status(measure: Any) -> None:
    broken = perceptron(3)
    with torch.no_grad():
        broken[0].weight.fill_(torch.nan)
    for models in ({"unlearned": broken}, {"original": broken}):
        found = {key: time for key, time in values(read(measure, evidence(**models))).items() if "-cap" not in key}
        assert found
        assert set(found.values()) == {(None, "non-finite")}


def test_training_that_diverges_is_a_status_and_not_a_long_time() -> None:
    class Exploding(nn.Module):
        """Its outputs are no numbers as soon as its weights have moved."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.bias = perceptron(3), nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            out = self.net(x)
            out = torch.cat([out[:, :1] + self.bias, out[:, 1:]], 1)
            return out if float(self.bias.detach()) == 0.0 else out * torch.nan

    found = values(read(Relearn(P), evidence(unlearned=Exploding())))
    assert found["relearn-steps.forget"] == (None, "non-finite")
    assert found["relearn-accuracy.forget.step=0"][1] == "ok"
    assert found["relearn-accuracy.forget.step=7"] == (None, "non-finite")


def test_no_rows_are_a_status() -> None:
    empty = {**DATA, "forget": DATA["forget"].rows(torch.arange(0)), "holdout": DATA["holdout"].rows(torch.arange(0))}
    for measure in (*MEASURES, Ain(AinParams(judged="holdout"))):
        found = {k: v for k, v in values(read(measure, evidence(data=empty))).items() if "-cap" not in k}
        assert set(found.values()) == {(None, "empty split")}


def test_one_row_and_batch_normalisation_work() -> None:
    one = {**DATA, "forget": DATA["forget"].rows(torch.arange(1))}
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double().eval()
    found = values(read(Relearn(P), evidence(data=one, unlearned=net)))
    assert found["relearn-steps.forget"][1] in ("ok", "censored")


def test_an_original_that_knows_nothing_leaves_nothing_to_relearn() -> None:
    wrong = {**DATA, "forget": replace(DATA["forget"], y=(ORIGINAL(DATA["forget"].x).argmax(1) + 1) % 3)}
    found = values(read(Relearn(P), evidence(data=wrong)))
    assert found["relearn-steps.forget"] == (None, "nothing to relearn")


def test_scores_and_times_by_hand() -> None:
    at = [Score(0.0, 3.0), Score(0.5, 1.0), Score(0.4, 2.0), Score(0.6, 0.5)]
    assert time_until(at, lambda now: now.accuracy >= 0.5) == Time(1)  # the first time, though it falls again
    assert time_until(at, lambda now: now.loss <= 0.9) == Time(3)
    assert time_until(at, lambda now: now.accuracy >= 0.9) == Time(None, "censored")
    assert time_until([*at, Score(math.nan, math.nan)], lambda now: now.accuracy >= 0.9) == Time(None, "non-finite")
    looks = iter(at[1:])
    assert course(at[0], range(9), lambda: next(looks), lambda scores: scores[-1].accuracy >= 0.5) == at[:2]
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = score(evidence().task, logits, torch.tensor([0, 2]))
    by_hand = (math.log(1 + 2 * math.exp(-2)) + math.log(2 + math.e)) / 2
    assert (found.accuracy, found.loss) == (0.5, pytest.approx(by_hand, abs=1e-12))


def test_a_margin_that_is_met_exactly_is_met() -> None:
    """(1 - 0.05) * 0.8 is 0.76 but for rounding: 19 of 25 rows are enough."""
    watched = Watched(evidence(), "forget")
    watched.original = Score(0.8, 1.0)
    assert watched.knows_as_much(0.05, Score(19 / 25, 9.0))
    assert not watched.knows_as_much(0.05, Score(18 / 25, 0.0))
    assert not watched.knows_as_much(0.05, Score(0.755, 0.0))  # the margin is a share of the original's, not a distance
    assert watched.fits_as_well(0.05, Score(0.0, 1.05))
    assert not watched.fits_as_well(0.05, Score(1.0, 1.051))
