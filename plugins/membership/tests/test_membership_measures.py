"""The attacks on outputs whose truth is known: what they find, what they miss, and when they say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch import Generator, Tensor

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Data, Evidence, Reading, View, derive_seed, generator
from unlearnbench.record import verdict
from unlearnbench_membership import scores
from unlearnbench_membership.loss_attacks import LossAttack, Umia, Yeom
from unlearnbench_membership.plugin import SongMittalParams, UmiaParams
from unlearnbench_membership.song_mittal import SongMittal

CLASSES = 5
NAMES = tuple("abcde")


@dataclass
class Table:
    """Rows with given outputs: what a run would hand to a measure."""

    logits: dict[str, Tensor]
    classes: dict[str, Tensor]
    subject: str = "unlearned"
    _ids: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        start = 0
        for split, y in self.classes.items():
            if split not in self._ids:
                self._ids[split] = torch.arange(start, start + len(y))
            start += len(y)

    def outputs(self, split: str, subject: str | None = None) -> Tensor:
        return self.logits[split].clone()

    def y(self, split: str) -> Tensor:
        return self.classes[split].clone()

    def view(self, split: str) -> View:
        y, ids = self.classes[split], self._ids[split]
        return View(Data(x=y[:, None].float(), y=y, ids=ids, outputs=NAMES), torch.arange(len(y)), name=split)

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(3, purpose))

    def shuffled(self, seed: int) -> Table:
        order = {
            s: torch.randperm(len(y), generator=generator(seed + i)) for i, (s, y) in enumerate(self.classes.items())
        }
        return Table(
            {s: self.logits[s][order[s]] for s in order},
            {s: self.classes[s][order[s]] for s in order},
            _ids={s: self._ids[s][order[s]] for s in order},
        )


def rows(n: int, margin: float, seed: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Outputs of rows whose true class lies ``margin`` above the others; a share ``noise`` has a wrong class."""
    rng = generator(seed)
    y = torch.randint(CLASSES, (n,), generator=rng)
    logits = torch.randn(n, CLASSES, generator=rng)
    logits[torch.arange(n), y] += margin
    flipped = torch.rand(n, generator=rng) < noise
    return logits, torch.where(flipped, (y + 1) % CLASSES, y)


def table(forget: float, unseen: float = 1.5, noise: float = 0.0) -> Table:
    """A model that knows retain rows well, unseen rows less, and the forget set as well as ``forget`` says."""
    made = {
        "forget": rows(120, forget, 1, noise),
        "retain": rows(600, 5.0, 2),
        "test": rows(400, unseen, 3),
        "holdout": rows(120, unseen, 4, noise),
    }
    return Table({s: logits for s, (logits, _) in made.items()}, {s: y for s, (_, y) in made.items()})


KNOWN, FORGOTTEN, OVER_FORGOTTEN = table(5.0), table(1.5), table(-4.0)
ATTACKS: dict[str, Any] = {
    "loss-attack": LossAttack(NoParams()),
    "umia": Umia(UmiaParams()),
    "yeom": Yeom(NoParams()),
    "song-mittal": SongMittal(SongMittalParams()),
    "song-mittal svc": SongMittal(SongMittalParams(attack="svc", limit=200)),
}


def measured(attack: str, of: Table) -> dict[str, Reading]:
    found: Iterable[Reading] = ATTACKS[attack].measure(cast(Evidence, of))
    return {reading.key: reading for reading in found}


def value(attack: str, of: Table, key: str) -> float:
    found = measured(attack, of)[key].value
    assert found is not None
    return found


AREAS = {
    "loss-attack": "loss-attack-auc",
    "umia": "umia-auc",
    "song-mittal": "song-mittal-auc.score=modified-entropy",
    "song-mittal svc": "song-mittal-auc.score=confidence",
}


@pytest.mark.parametrize("attack", AREAS)
def test_what_is_known_is_found_and_what_a_gold_model_knows_is_not(attack: str) -> None:
    assert value(attack, KNOWN, AREAS[attack]) > 0.85
    assert value(attack, FORGOTTEN, AREAS[attack]) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("attack", ["loss-attack", "umia"])
def test_over_forgetting_is_seen_by_the_area_as_far_below_a_half_and_by_the_accuracy_as_far_above(attack: str) -> None:
    assert value(attack, OVER_FORGOTTEN, AREAS[attack]) < 0.05
    assert value(attack, OVER_FORGOTTEN, {"loss-attack": "loss-attack-accuracy", "umia": "umia"}[attack]) > 0.95


@pytest.mark.parametrize("attack", AREAS)
def test_over_forgetting_is_not_reported_as_good(attack: str) -> None:
    """No reading of an attack calls lower or higher better: all of them aim at gold's value."""
    over, gold, known = (measured(attack, of)[AREAS[attack]] for of in (OVER_FORGOTTEN, FORGOTTEN, KNOWN))
    assert {reading.better for reading in measured(attack, OVER_FORGOTTEN).values()} == {"gold"}
    assert verdict(over, gold) == "below gold"
    assert verdict(known, gold) == "above gold"
    assert verdict(gold, gold) == "like gold"


def test_yeoms_advantage_falls_below_golds_only_where_unseen_rows_lie_below_the_threshold_at_all() -> None:
    well_known, hardly_known = (
        (
            measured("yeom", table(-4.0, unseen))["yeom-advantage"],
            measured("yeom", table(unseen, unseen))["yeom-advantage"],
        )
        for unseen in (4.5, 0.0)
    )
    assert verdict(*well_known) == "below gold"
    assert verdict(*hardly_known) == "like gold"  # blind: the README says so
    assert value("yeom", KNOWN, "yeom-advantage") > 0.4


@pytest.mark.parametrize("attack", ATTACKS)
def test_readings_do_not_depend_on_the_order_of_rows(attack: str) -> None:
    assert measured(attack, KNOWN) == measured(attack, KNOWN.shuffled(7))


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_an_interval_around_each_value(attack: str) -> None:
    of = measured(attack, table(2.5))
    bare = {"yeom-threshold", "song-mittal-own-thresholds"}
    for reading in (r for r in of.values() if r.name not in bare):
        assert reading.low is not None, reading.key
        assert reading.high is not None, reading.key
        assert reading.value is not None, reading.key
        assert reading.low <= reading.value <= reading.high


def test_the_curve_of_the_loss_rises_and_has_the_rates_that_are_quoted() -> None:
    found = [r for r in measured("loss-attack", KNOWN).values() if r.name == "loss-attack-tpr"]
    assert [r.at["fpr"] for r in found][:6] == ["0.001", "0.00158", "0.00251", "0.00398", "0.00631", "0.01"]
    heights = [r.value for r in found if r.value is not None]
    assert len(heights) == 15
    assert heights == sorted(heights)
    assert heights[-1] > 0.9


def test_unseen_rows_must_carry_the_noise_of_the_forget_set() -> None:
    """A gold model looks as if it had over-forgotten where noisy rows are compared with clean ones."""
    noisy = table(1.5, noise=0.4)
    clean = {reading.key: reading for reading in Umia(UmiaParams(unseen="test")).measure(cast(Evidence, noisy))}
    fair = {reading.key: reading for reading in Umia(UmiaParams(unseen="holdout")).measure(cast(Evidence, noisy))}
    assert cast(float, clean["umia-auc"].value) < 0.4
    assert fair["umia-auc"].value == pytest.approx(0.5, abs=0.08)
    assert value("loss-attack", noisy, "loss-attack-auc") == fair["umia-auc"].value


def test_umia_takes_as_many_test_rows_as_there_are_forget_rows() -> None:
    assert measured("umia", KNOWN)["umia"].n == 2 * 120
    few = replace(KNOWN, logits={**KNOWN.logits, "test": KNOWN.logits["test"][:50]})
    few.classes = {**KNOWN.classes, "test": KNOWN.classes["test"][:50]}
    few._ids = {**KNOWN._ids, "test": KNOWN._ids["test"][:50]}
    assert measured("umia", few)["umia"].n == measured("umia", few)["umia-auc"].n == 2 * 50


def test_yeom_by_hand() -> None:
    p = {"forget": [0.9, 0.9, 0.9, 0.5], "retain": [0.8, 0.8], "holdout": [0.9, 0.2, 0.3, 0.7], "test": [0.5]}
    logits = {s: torch.tensor([[q, 1 - q] for q in values]).double().log() for s, values in p.items()}
    found = measured("yeom", Table(logits, {s: torch.zeros(len(v), dtype=torch.int64) for s, v in p.items()}))
    assert found["yeom-threshold"].value == pytest.approx(-np.log(0.8))
    assert found["yeom-true-positive-rate"].value == 3 / 4
    assert found["yeom-false-positive-rate"].value == 1 / 4
    assert found["yeom-advantage"].value == 1 / 2


@pytest.mark.parametrize(
    ("score", "read"),
    [
        ("confidence", scores.confidence),
        ("entropy", lambda z, _: -scores.entropy(z)),
        ("modified-entropy", lambda z, y: -scores.modified_entropy(z, y)),
    ],
)
def test_song_and_mittals_attacks_are_those_of_a_search_class_by_class(
    score: str, read: Callable[[Tensor, Tensor], Tensor]
) -> None:
    of = table(3.0)
    x = {s: read(of.logits[s].double(), of.classes[s]).numpy() for s in of.logits}
    y = {s: of.classes[s].numpy() for s in of.logits}
    called = dict.fromkeys(("forget", "holdout"), 0)
    for c in range(CLASSES):
        inside, outside = x["retain"][y["retain"] == c], x["test"][y["test"] == c]
        best, threshold = -1.0, 0.0
        for t in np.sort(np.concatenate([inside, outside])):
            accuracy = (np.sum(inside >= t) / len(inside) + np.sum(outside < t) / len(outside)) / 2
            if accuracy > best + 1e-12:
                best, threshold = accuracy, t
        for s in called:
            called[s] += int(np.sum(x[s][y[s] == c] >= threshold))
    assert value("song-mittal", of, f"song-mittal-non-members.score={score}") == pytest.approx(
        100 * (1 - called["forget"] / 120)
    )
    balanced = (called["forget"] / 120 + 1 - called["holdout"] / 120) / 2
    assert value("song-mittal", of, f"song-mittal-accuracy.score={score}") == pytest.approx(balanced)
    assert value("song-mittal", of, f"song-mittal-own-thresholds.score={score}") == CLASSES


def test_correctness_is_a_matter_of_accuracy_alone() -> None:
    right = (KNOWN.logits["forget"].argmax(1) == KNOWN.classes["forget"]).double().mean().item()
    assert value("song-mittal", KNOWN, "song-mittal-non-members.score=correctness") == pytest.approx(100 * (1 - right))


def test_the_probability_vector_is_judged_by_a_support_vector_classifier_on_drawn_rows() -> None:
    everything = SongMittal(SongMittalParams(limit=None))
    of = Table(
        {**KNOWN.logits, "retain": KNOWN.logits["retain"][:400]},
        {**KNOWN.classes, "retain": KNOWN.classes["retain"][:400]},
    )
    p = {s: z.double().softmax(1).numpy() for s, z in of.logits.items()}
    machine = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([p["retain"], p["test"]]), np.repeat([1, 0], 400))
    expected = 100 * (machine.predict(p["forget"]) == 0).mean()
    found = {r.key: r for r in everything.measure(cast(Evidence, of))}
    assert found["song-mittal-non-members.score=probability-vector"].value == pytest.approx(expected)


def test_the_members_of_a_classifier_are_not_the_first_rows() -> None:
    """The first 200 retain rows are as unknown as test rows: whoever takes those learns nothing."""
    first, rest = rows(200, 1.5, 8), rows(2800, 5.0, 9)
    retain = torch.cat([first[0], rest[0]]), torch.cat([first[1], rest[1]])
    of = Table({**KNOWN.logits, "retain": retain[0]}, {**KNOWN.classes, "retain": retain[1]})
    assert value("song-mittal svc", of, "song-mittal-non-members.score=confidence") < 30
    head = Table({**of.logits, "retain": first[0]}, {**of.classes, "retain": first[1]})
    assert value("song-mittal svc", head, "song-mittal-accuracy.score=confidence") < value(
        "song-mittal svc", of, "song-mittal-accuracy.score=confidence"
    )


def test_a_forgotten_class_has_the_threshold_of_all_rows() -> None:
    kept = {s: KNOWN.classes[s] != 2 for s in ("retain", "test")}
    of = Table(
        {s: z[kept[s]] if s in kept else z[KNOWN.classes[s] == 2] for s, z in KNOWN.logits.items()},
        {s: y[kept[s]] if s in kept else y[y == 2] for s, y in KNOWN.classes.items()},
    )
    found = measured("song-mittal", of)
    assert found["song-mittal-own-thresholds.score=confidence"].value == CLASSES - 1
    assert cast(float, found["song-mittal-accuracy.score=confidence"].value) > 0.75


def _with(change: Mapping[str, Tensor]) -> Table:
    classes = {s: KNOWN.classes[s][: len(change[s])] if s in change else y for s, y in KNOWN.classes.items()}
    return Table({**KNOWN.logits, **change}, classes)


NONE = torch.zeros(0, CLASSES)
CASES: dict[str, tuple[Table, str]] = {
    "no forget rows": (_with({"forget": NONE}), "empty split"),
    "no hold-out": (_with({"holdout": NONE}), "empty split"),
    "no test rows": (_with({"test": NONE}), "empty split"),
    "no retain rows": (_with({"retain": NONE}), "empty split"),
    "diverged": (_with({s: torch.full_like(z, torch.nan) for s, z in KNOWN.logits.items()}), "non-finite"),
    "overflown": (_with({"forget": torch.full_like(KNOWN.logits["forget"], torch.inf)}), "non-finite"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_cannot_be_attacked_has_a_status(attack: str, case: str) -> None:
    of, status = CASES[case]
    found, plain = measured(attack, of), measured(attack, KNOWN)
    undefined = {reading.status for reading in found.values() if reading.value is None}
    assert undefined <= {status}
    assert undefined or all(found[key].value == plain[key].value for key in found)  # what it never reads


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_forget_row_gives_numbers_or_statuses(attack: str) -> None:
    found = measured(attack, _with({"forget": KNOWN.logits["forget"][:1]}))
    assert {r.status for r in found.values() if r.value is None} <= {"too few rows", "zero variance"}
    assert any(reading.value is not None for reading in found.values())


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_destroyed_model_with_huge_outputs_still_has_readings(attack: str) -> None:
    found = measured(attack, _with({split: z * 1e36 for split, z in KNOWN.logits.items()}))
    same = {"zero variance"} if attack.startswith("song-mittal") else set()  # every entropy is 0
    assert {reading.status for reading in found.values()} <= {"ok"} | same
    assert any(reading.value is not None for reading in found.values())


@pytest.mark.parametrize("attack", ["loss-attack", "umia", "song-mittal", "song-mittal svc"])
def test_a_model_that_says_the_same_of_every_row_has_no_curve(attack: str) -> None:
    found = measured(attack, _with({s: torch.zeros_like(z) for s, z in KNOWN.logits.items()}))
    key = AREAS[attack]
    assert (found[key].value, found[key].status) == (None, "zero variance")
