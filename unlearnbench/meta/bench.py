"""Running the bank: tune what is tuned, run every entry with every seed, score what the records say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unlearnbench.api.errors import IncompatibleError, UnlearnBenchError, UsageError
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.config import resolve_experiment, scenario
from unlearnbench.measures import measures_of
from unlearnbench.meta.bank import ATTACK, ATTACK_KEY, BANK, PLUGINS, Entry, Tuned, tune
from unlearnbench.meta.scores import Point, Score, score
from unlearnbench.phases import Progress, no_progress
from unlearnbench.price import Price
from unlearnbench.record import Record
from unlearnbench.registry import Registry, registry
from unlearnbench.session import carry_out
from unlearnbench.spec import RunSpec

DEFAULT_SCENARIO = "location30-mlp-random10/v1"
DEFAULT_PROFILE = "audit"
LEVEL_AT = {"fpr": "0.01"}
"""The point that stands for a curve of rates; all others belong to the curve."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Meta:
    """What the measures are worth on one scenario."""

    scenario: str
    seeds: tuple[int, ...]
    bank: tuple[Entry, ...]
    tuned: Mapping[str, Tuned]
    scores: tuple[Score, ...]
    problems: tuple[UnlearnBenchError, ...] = ()

    def to_json(self) -> dict[str, Any]:
        bank = [
            {**asdict(e), "tuned": asdict(self.tuned[e.label]) if e.label in self.tuned else None} for e in self.bank
        ]
        return {
            "scenario": self.scenario,
            "seeds": list(self.seeds),
            "bank": bank,
            "scores": [found.to_json() for found in self.scores],
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all runs of the bank have in common."""

    scene: str
    seeds: tuple[int, ...]
    out: Path
    store: Path
    on_event: Tell
    progress: Progress
    components: Registry

    def specs(self, unlearners: Sequence[Mapping[str, Any]], **measures: Any) -> list[RunSpec]:
        chosen = {"scenario": self.scene, "unlearners": list(unlearners), "seeds": list(self.seeds), **measures}
        return resolve_experiment(chosen, self.components)

    def run(
        self, specs: Sequence[RunSpec], folder: str, on_price: Callable[[Price], None] | None = None
    ) -> tuple[list[Record], list[UnlearnBenchError]]:
        outcome = carry_out(
            specs,
            out=self.out / folder,
            store=self.store,
            tracking=False,
            progress=self.progress,
            on_event=self.on_event,
            on_price=on_price,
        )
        return outcome.records, outcome.problems


def measure_the_measures(
    *,
    scene: str = DEFAULT_SCENARIO,
    measures: Sequence[Any] = (),
    profile: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    out: Path = Path("runs-meta"),
    store: Path | None = None,
    bank: Sequence[Entry] = BANK,
    on_event: Tell = lambda event: None,
    on_price: Callable[[Price], None] | None = None,
    progress: Progress = no_progress,
) -> Meta:
    """Run the bank on a scenario and score every reading of every measure; those of costs are none of forgetting.

    Without measures and profile it takes the profile ``audit``.

    Raises:
        UsageError: an unknown name, or a plugin of the bank is not installed.
        IncompatibleError: the scenario forgets something other than samples of a classification.
    """
    components = registry()
    bench = _Bench(
        scene=scene, seeds=tuple(dict.fromkeys(seeds)), out=out, store=store or out / "store",
        on_event=on_event, progress=progress, components=components,
    )  # fmt: skip
    _check(scene, components)
    named = [] if measures and not profile else _profiled(profile or DEFAULT_PROFILE, components)
    chosen = {"measures": [*named, *measures]}
    first, *_ = bench.specs([entry.choice() for entry in bank], **chosen)  # what is wrong is said before any work
    costs = [choice.name for choice in first.measures if _is_cost(choice.name, components)]
    if costs:
        raise UsageError("bad-measure", f"{' and '.join(costs)} says what a run costs, not what it forgot",
                         where="--measure", hint="name measures of forgetting")  # fmt: skip
    tuned = {entry.label: _tuned(entry, bench) for entry in bank if entry.tuned}
    found = {label: result for label, result in tuned.items() if result is not None}
    choices = [e.choice(lr=found[e.label].lr) if e.label in found else e.choice() for e in bank]
    specs = bench.specs(choices, **chosen)
    records, problems = bench.run(specs, "bank", on_price)
    # Specs come entry by entry, seed by seed, and one run is one spec.
    labels = {spec.id: bank[place // len(bench.seeds)].label for place, spec in enumerate(specs)}
    scores = scores_of([(labels[str(r.document["spec_id"])], r) for r in records], bank, components)
    return Meta(scene, bench.seeds, tuple(bank), found, tuple(scores), tuple(problems))


def _profiled(name: str, components: Registry) -> list[Any]:
    """The measures of a profile that are about forgetting."""
    found = measures_of(name, "classification", ["samples"], components)
    return [measure for measure in found if not _is_cost(measure["name"], components)]


def _check(scene: str, components: Registry) -> None:
    document = scenario(scene)
    absent = sorted(set(PLUGINS) - {plugin.distribution for plugin in components.plugins})
    if absent:
        raise UsageError("missing-plugin", f"the bank needs {' and '.join(absent)}", where="meta",
                         hint=f"pip install {' '.join(absent)}")  # fmt: skip
    kinds = [str(request["kind"]) for request in document["requests"]]
    dataset = components.get("dataset", document["dataset"]["name"], where="--scenario").spec
    task = document["dataset"].get("params", {}).get("task") or dataset.tasks[0]  # type: ignore[attr-defined]
    if kinds != ["samples"] or task != "classification":
        asked = f"{task}, forgetting {', '.join(kinds)}"
        raise IncompatibleError("incompatible", f"{scene} is {asked}: a share of it cannot be kept", where="--scenario",
                                hint="choose a classification that forgets samples")  # fmt: skip


def _tuned(entry: Entry, bench: _Bench) -> Tuned | None:
    """Search the learning rate with which the loss attack reads chance, mean over seeds."""
    (first, *_) = bench.specs([entry.choice()], measures=[ATTACK])
    start = first.unlearner.params.get("lr") or first.recipe.lr

    def read(lr: float) -> float | None:
        records, problems = bench.run(bench.specs([entry.choice(lr=lr)], measures=[ATTACK]), "tuning")
        values = [record.value(ATTACK_KEY) for record in records if record.status == "complete"]
        known = [value for value in values if value is not None]
        return fmean(known) if known and not problems else None

    found = tune(read, start)
    if found is None:
        bench.on_event(f"{entry.label}: the loss attack has no reading, so the learning rate stays at {start:g}")
    else:
        bench.on_event(f"{entry.label}: learning rate {found.lr:.3g}, where the loss attack reads {found.reading:.3f}")
    return found


def scores_of(records: Sequence[tuple[str, Record]], bank: Sequence[Entry], components: Registry) -> list[Score]:
    """Scores of all readings of the records, each with the label of its entry, the best first."""
    points: dict[tuple[str, str], dict[str, dict[int, Point]]] = {}
    spent: dict[str, list[float]] = {}
    for label, record in records:
        seed = int(record.document["spec"]["seeds"]["train"])
        for taken in record.document["measures"]:
            spent.setdefault(taken["name"], []).append(float(taken["cpu_s"]))
        for name, key, point in _points(record, components):
            points.setdefault((name, key), {}).setdefault(label, {})[seed] = point
    found = [score(name, key, at, bank, fmean(spent[name])) for (name, key), at in points.items()]
    return sorted(found, key=lambda one: (*one.rank, one.measure, one.key))


def _points(record: Record, components: Registry) -> Iterator[tuple[str, str, Point]]:
    """What a record says of the unlearned model, but for costs, single classes and points of curves."""
    for reading in record.readings:
        if reading["subject"] != "unlearned" or reading["value"] is None or reading["gap"] is None:
            continue
        if _is_cost(reading["measure"], components) or _is_part(reading["at"]):
            continue
        low, high = reading["interval"] or (None, None)
        like_gold = None if reading["verdict"] is None else reading["verdict"] == "like gold"
        point = Point(float(reading["value"]), float(reading["gap"]), low, high, like_gold)
        yield str(reading["measure"]), str(reading["key"]), point


def _is_cost(measure: str, components: Registry) -> bool:
    spec = components.get("measure", measure).spec
    assert isinstance(spec, MeasureSpec)
    return "cost" in spec.reads or spec.effort == "repetition"


def _is_part(at: Mapping[str, str]) -> bool:
    return dict(at) != LEVEL_AT and any(key == "class" or _is_number(value) for key, value in at.items())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
