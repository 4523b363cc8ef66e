"""Accuracy of every row of gates on every class: counted by hand on a network that says what its input looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hand_evidence import HandEvidence, rows, shuffled_rows
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Data, Reading, Request, generator
from unlearnbench_wfnet.artifact import describe
from unlearnbench_wfnet.measures import WfNetRows
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.plugin import RowsParams, unlearnbench_measures
from unlearnbench_wfnet.rows import Counts, chosen_ids, counted
from unlearnbench_wfnet.targets import find_targets

OPEN, CLOSED = 30.0, -30.0
NO_MATRIX = {"row-accuracy.row=any", "row-accuracy-train.row=any"}
BIAS = (0.1, 0.2, 0.3)


def mirror() -> nn.Sequential:
    """Says the class that an input [3, 1, 1] looks like; without a clear look the class of the largest open bias."""
    layer = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3)[:, :, None, None])
        layer.bias.copy_(torch.tensor(BIAS))  # type: ignore[union-attr]
    return nn.Sequential(layer, nn.Flatten()).eval()


def looking(like: Sequence[int], y: Sequence[int], first_id: int) -> Data:
    x = torch.zeros(len(like), 3, 1, 1)
    x[torch.arange(len(like)), torch.tensor(like, dtype=torch.int64)] = 5.0
    return rows(x, torch.tensor(y, dtype=torch.int64), first_id)


DATA = {
    "test": looking([0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], 100),
    "holdout": looking([2, 2, 0], [2, 2, 2], 200),
    "retain": looking([0, 1, 1, 1], [0, 0, 1, 1], 300),
    "forget": looking([2, 1], [2, 2], 400),
}
# Row 0 and row 2 close the channel of their own class; row 1 closes nothing, so that class 1 is never forgotten. With
# channel 0 closed, what looks like 0 is said to be 2 (bias 0.3); with channel 2 closed, what looks like 2 is 1 (0.2).
TEST_MATRIX = [["0/4", "2/2", "3/3"], ["3/4", "2/2", "2/3"], ["3/4", "2/2", "0/3"]]
TRAIN_MATRIX = [["0/2", "2/2", "1/2"], ["1/2", "2/2", "1/2"], ["1/2", "2/2", "0/2"]]


def gated(base: nn.Module, alphas: Sequence[Sequence[float]], harden: float = 0.0) -> dict[str, object]:
    net = WFNet(base, find_targets(base, (3, 1, 1)), 3)
    with torch.no_grad():
        for memory in (*net.alpha_weight, *net.alpha_bias):
            memory.copy_(torch.tensor(alphas))
    return describe(net, ["c0", "c1", "c2"], rows=[2], harden=harden, parameters={}, log=[])


ALPHAS = [[CLOSED, OPEN, OPEN], [OPEN, OPEN, OPEN], [OPEN, OPEN, CLOSED]]
RUN = HandEvidence(
    data=DATA,
    models={"original": mirror(), "gold": mirror(), "unlearned": mirror()},
    request=Request("class", "0" * 64, classes=(2,)),
    artifacts=gated(mirror(), ALPHAS),
)


def measured(run: HandEvidence = RUN, **params: object) -> dict[str, Reading]:
    found = list(WfNetRows(RowsParams(**params)).measure(run))  # type: ignore[arg-type]
    assert len({reading.key for reading in found}) == len(found)
    return {reading.key: reading for reading in found}


def with_data(run: HandEvidence, **data: Data) -> HandEvidence:
    return replace(run, data={**run.data, **data})


def shares(matrix: Iterable[Iterable[str]], name: str) -> Mapping[str, float]:
    return {
        f"{name}.class=c{k}.row=c{c}": float(Fraction(share))
        for c, own in enumerate(matrix)
        for k, share in enumerate(own)
    }


def test_the_matrix_is_what_one_counts_by_hand_on_unseen_and_on_training_rows() -> None:
    found = measured()
    cells = {key: reading.value for key, reading in found.items() if key.startswith("row-accuracy")}
    assert cells == {**shares(TEST_MATRIX, "row-accuracy"), **shares(TRAIN_MATRIX, "row-accuracy-train")}
    assert found["row-accuracy.class=c0.row=c2"].n == 4
    assert found["row-accuracy-train.class=c2.row=c0"].n == 2


def test_summaries_are_over_rows_and_the_other_classes_are_taken_together() -> None:
    found = {key: reading.value for key, reading in measured(matrix=False).items()}
    assert found == pytest.approx(
        {
            "rows-acc-r": (5 / 5 + 5 / 7 + 5 / 6) / 3,
            "rows-acc-r-min": 5 / 7,
            "rows-acc-f": (0 + 1 + 0) / 3,
            "rows-acc-f-max": 1.0,
            "rows-acc-r-train": (3 / 4 + 2 / 4 + 3 / 4) / 3,
            "rows-acc-r-min-train": 2 / 4,
            "rows-acc-f-train": (0 + 1 + 0) / 3,
            "rows-acc-f-max-train": 1.0,
        },
        abs=1e-12,
    )


def test_of_the_original_the_summaries_are_those_of_the_network_as_it_is() -> None:
    found = measured(replace(RUN, subject="original", artifacts={}))
    values = {key: reading.value for key, reading in found.items() if key.startswith("rows-")}
    assert values == pytest.approx(
        {
            "rows-acc-r": (4 / 5 + 5 / 7 + 5 / 6) / 3,
            "rows-acc-r-min": 5 / 7,
            "rows-acc-f": (3 / 4 + 1 + 2 / 3) / 3,
            "rows-acc-f-max": 1.0,
            "rows-acc-r-train": (3 / 4 + 2 / 4 + 3 / 4) / 3,
            "rows-acc-r-min-train": 2 / 4,
            "rows-acc-f-train": (1 / 2 + 1 + 1 / 2) / 3,
            "rows-acc-f-max-train": 1.0,
        },
        abs=1e-12,
    )
    assert {found[key].status for key in NO_MATRIX} == {"no gates"}


def test_cells_have_the_exact_interval_of_their_counts() -> None:
    # Clopper and Pearson for k = n: the lower end is the n-th root of 0.025; for k = 0 it is the mirror image.
    found = measured()
    assert found["row-accuracy.class=c2.row=c0"].low == pytest.approx(0.025 ** (1 / 3))
    assert found["row-accuracy.class=c2.row=c0"].high == 1
    assert found["row-accuracy.class=c0.row=c0"].low == 0
    assert found["row-accuracy.class=c0.row=c0"].high == pytest.approx(1 - 0.025 ** (1 / 4))


def test_gold_has_a_status_for_everything_and_an_unlearner_without_gates_for_the_matrix() -> None:
    gold = measured(replace(RUN, subject="gold", artifacts={}))
    assert len(gold) == 10
    assert {(reading.value, reading.status) for reading in gold.values()} == {(None, "gold has no rows")}
    for artifacts in ({}, {"format": "scale-gun/1"}, {"format": torch.zeros(2)}):
        other = measured(replace(RUN, artifacts=artifacts))
        assert set(other) == NO_MATRIX
        assert {(reading.value, reading.status) for reading in other.values()} == {(None, "no gates")}


def test_every_reading_is_declared_with_its_direction() -> None:
    spec = next(spec for spec in unlearnbench_measures() if spec.name == "wfnet-rows")
    declared = {reading.name: reading.better for reading in spec.readings}
    subjects = (RUN, replace(RUN, subject="gold"), replace(RUN, subject="original"))
    seen = {(reading.name, reading.better) for run in subjects for reading in measured(run).values()}
    assert seen == set(declared.items())


def test_a_class_without_rows_has_no_cell_and_is_left_out_of_the_means_over_it() -> None:
    found = measured(with_data(RUN, holdout=DATA["holdout"].rows(torch.arange(0))))
    cells = [key for key in found if key.startswith("row-accuracy.")]
    assert len(cells) == 6
    assert not any("class=c2" in key for key in cells)
    assert found["rows-acc-f"].value == pytest.approx((0 + 1) / 2)
    assert found["rows-acc-f"].n == 2
    assert found["rows-acc-r"].value == pytest.approx((2 / 2 + 3 / 4 + 5 / 6) / 3)
    assert found["rows-acc-r"].n == 3


def test_without_any_row_of_data_every_summary_is_a_status() -> None:
    nothing = DATA["test"].rows(torch.arange(0))
    for run in (RUN, replace(RUN, subject="original")):
        found = measured(with_data(run, test=nothing, holdout=nothing))
        for name in ("rows-acc-r", "rows-acc-r-min", "rows-acc-f", "rows-acc-f-max"):
            assert (found[name].value, found[name].status, found[name].n) == (None, "empty split", 0)
            assert found[f"{name}-train"].value is not None


def test_outputs_that_are_no_numbers_are_a_status() -> None:
    broken = replace(DATA["test"], x=DATA["test"].x.clone().index_fill(0, torch.tensor([2]), torch.nan))
    for run in (RUN, replace(RUN, subject="original")):
        found = measured(with_data(run, test=broken))
        assert found["rows-acc-r"].status == found["rows-acc-f-max"].status == "non-finite"
        assert found["rows-acc-r"].value is None
        assert found["rows-acc-r-train"].value is not None
    cell = measured(with_data(RUN, test=broken))["row-accuracy.class=c1.row=c0"]
    assert (cell.value, cell.status, cell.low) == (None, "non-finite", None)


def test_rows_are_tried_as_hardened_as_the_model_that_came_back() -> None:
    """A gate of 0.12 leaves 5 * 0.12 = 0.6 of a look, which is still the largest output; hardened, nothing is left."""
    half = [[-2.0, OPEN, OPEN], ALPHAS[1], ALPHAS[2]]
    soft = measured(replace(RUN, artifacts=gated(mirror(), half)))
    hard = measured(replace(RUN, artifacts=gated(mirror(), half, harden=0.2)))
    assert soft["row-accuracy.class=c0.row=c0"].value == 0.75
    assert hard["row-accuracy.class=c0.row=c0"].value == 0.0


def test_gates_of_another_base_are_refused() -> None:
    other = mirror()
    with torch.no_grad():
        other[0].bias[0] += 1  # type: ignore[index]
    with pytest.raises(DataError) as caught:
        measured(replace(RUN, artifacts=gated(other, ALPHAS)))
    assert caught.value.code == "wrong-base"


def many(seed: int) -> HandEvidence:
    """Eighty unseen rows, of which a third look like another class."""
    rng = generator(seed)
    y = torch.randint(3, (80,), generator=rng)
    like = torch.where(torch.rand(80, generator=rng) < 0.33, (y + 1) % 3, y)
    known, gone = (y < 2).nonzero()[:, 0], (y == 2).nonzero()[:, 0]
    parts = {"test": (known, 1000), "holdout": (gone, 2000)}
    return with_data(
        RUN, **{name: looking(like[at].tolist(), y[at].tolist(), first) for name, (at, first) in parts.items()}
    )


def test_at_most_so_many_rows_of_each_class_are_drawn_whatever_their_order_is() -> None:
    run = many(3)
    plain = measured(run, per_class=7)
    assert {reading.n for key, reading in plain.items() if key.startswith("row-accuracy.")} == {7}
    assert {reading.n for key, reading in plain.items() if key.startswith("row-accuracy-train.")} == {2}
    mixed = with_data(run, **{name: shuffled_rows(data)[0] for name, data in run.data.items()})
    assert measured(mixed, per_class=7) == plain
    whole = measured(run)
    assert whole["row-accuracy.class=c1.row=c0"].n > 7
    assert any(measured(replace(run, seed=seed), per_class=7) != plain for seed in (1, 2, 3))


def test_the_original_is_tried_on_the_rows_that_were_drawn_for_the_gates() -> None:
    """A WF-Net whose gates are all open does what the original does, on the same draw."""
    run = replace(many(5), artifacts=gated(mirror(), [[OPEN] * 3] * 3))
    opened = measured(run, per_class=5, matrix=False)
    original = measured(replace(run, subject="original"), per_class=5)
    assert {key: reading.value for key, reading in opened.items()} == {
        key: reading.value for key, reading in original.items() if key.startswith("rows-")
    }


def test_rows_without_a_label_are_no_data() -> None:
    y = DATA["test"].y.clone()
    y[0] = -100
    found = measured(with_data(RUN, test=replace(DATA["test"], y=y)))
    assert found["row-accuracy.class=c0.row=c1"].value == pytest.approx(2 / 3)


def test_drawn_ids_are_of_each_class_and_without_a_limit_all() -> None:
    ids, y = torch.arange(40, 52), torch.tensor([0, 1, 2, -100] * 3)
    assert chosen_ids(ids, y, None, generator(0)).tolist() == [40, 41, 42, 44, 45, 46, 48, 49, 50]
    drawn = chosen_ids(ids, y, 2, generator(0))
    assert len(set(drawn.tolist())) == 6
    assert y[drawn - 40].bincount().tolist() == [2, 2, 2]


def test_counts_agree_with_counting_one_row_after_the_other() -> None:
    rng = generator(9)
    y = torch.randint(4, (50,), generator=rng)
    outputs = [torch.randn(50, 4, generator=rng) for _ in range(4)]
    counts = counted(outputs, y, 4)
    for c, out in enumerate(outputs):
        right = [(int(k), bool(guess == k)) for k, guess in zip(y, out.argmax(1), strict=True)]
        others, own = [hit for k, hit in right if k != c], [hit for k, hit in right if k == c]
        assert counts.acc_r()[c] == pytest.approx(sum(others) / len(others))
        assert counts.acc_f()[c] == pytest.approx(sum(own) / len(own))


def test_a_single_class_has_no_others() -> None:
    counts = Counts(torch.tensor([[3, 0], [1, 0]]), torch.tensor([4, 0]), (True, True))
    assert counts.acc_r() == [None, 0.25]
    assert counts.acc_f() == [0.75, None]


def test_the_base_is_the_same_before_and_after() -> None:
    before: dict[str, Tensor] = {name: t.clone() for name, t in RUN.models["original"].state_dict().items()}
    measured()
    after = RUN.models["original"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
