"""The conformance kit bites: each mutant has one real bug, and the check named beside it catches it.

``pytest tests/test_mutants.py --capture=no`` prints the table of bugs and the checks that caught them.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unlearnbench.plugins import GROUP, _load, load_plugins
from unlearnbench.testing.contract import name_of
from unlearnbench.testing.kit import Bound, Outcome, checks_of_plugin

FOLDER = Path(__file__).parent / "fixtures" / "mutants"
CAUGHT_BY = {
    "optimises-the-teacher": "optimisers-own-the-returned-model",
    "shallow-teacher": "comes-nearer-to-gold",
    "mask-under-decay": "holds-its-own-mask",
    "trains-a-copy": "holds-masked-weights",
    "freeze-leaks": "leaves-the-model-ready",
    "forgets-eval-mode": "leaves-the-model-ready",
    "leaves-a-hook": "leaves-the-model-ready",
    "drops-the-last-batch": "serves-any-size",
    "one-epoch-too-many": "zero-epochs-change-nothing",
    "one-epoch-too-few": "each-epoch-reads-the-same",
    "statistics-drift": "zero-epochs-change-nothing",
    "seeds-the-world": "weights-change",
    "ignores-the-seed": "other-seed-other-result",
    "draws-from-the-world": "same-seed-same-result",
    "adds-a-logit": "keeps-the-output-interface",
    "reads-past-the-view": "weights-change",
    "swallows-the-deadline": "ends-when-its-time-is-over",
    "changes-the-graph": "writes-into-nothing-shared",
    "reads-undeclared": "weights-change",
    "never-forgets": "comes-nearer-to-gold",
    "wrong-loss-for-labels": "serves-every-declared-combination",
    "asks-the-model-itself": "serves-every-declared-input",
    "zero-for-nothing": "no-rows-is-a-status",
    "argmax-of-nan": "diverged-outputs-are-a-status",
    "distance-to-itself": "gold-is-ideal",
    "says-it-twice": "readings-say-what-they-are",
    "points-the-other-way": "yields-what-it-declares",
    "interval-beside-the-value": "value-lies-in-its-interval",
    "spares-the-original": "what-did-nothing-reads-as-the-original",
    "takes-the-first-rows": "row-order-does-not-matter-to-it",
    "hidden-state": "survives-the-store",
    "always-drops": "evaluation-mode-is-repeatable",
    "misses-a-class": "annotations-are-in-range",
    "not-finite": "inputs-are-finite",
    "late-rows-count-more": "row-order-does-not-matter",
    "adds-up-batch-means": "batch-size-does-not-matter",
    "patches-for-good": "leaves-nothing-patched",
    "tidies-up-at-the-end": "cleans-up-when-cancelled",
    "half-done-on-ctrl-c": "cleans-up-when-cancelled",
    "skips-what-raises": "ends-when-its-time-is-over",
    "keeps-every-step": "memory-does-not-grow-with-epochs",
    "keeps-every-graph": "memory-does-not-grow-with-epochs",
    "compares-all-pairs": "memory-is-bounded",
    "keeps-its-views": "nothing-outlives-the-call",
    "returns-a-graph": "nothing-outlives-the-call",
    "serves-only-once": "serves-a-stream",
    "remembers-in-the-class": "a-stream-goes-on-from-the-store",
    "numbers-as-keys": "a-stream-goes-on-from-the-store",
    "stashes-rows": "keeps-no-forgotten-row",
    "starts-from-the-original": "what-is-forgotten-stays-forgotten",
}
CORRECT = ("correct", "correct-in-full-steps", "correct-with-a-state")
"""What the mutants are mutations of; the kit finds nothing in them."""
NAMED = {
    "seeds-the-world": "changed torch's global random state",
    "reads-past-the-view": "reads View._data",
    "reads-undeclared": "the retain view is not declared in reads",
    "asks-the-model-itself": "forward() missing 2 required positional arguments",
    "patches-for-good": "torch.nn.functional.cross_entropy patched",
    "tidies-up-at-the-end": "ReLU.forward patched",
    "half-done-on-ctrl-c": "it went on after Ctrl-C",
    "skips-what-raises": "it went on after its deadline at moment",
    "keeps-its-views": "the view of retain",
    "returns-a-graph": "a graph hangs on mean",
    "stashes-rows": "after request 1, state x",
}
"""What the kit says where the check's own sentence says less, or something else."""


@cache
def bound() -> dict[tuple[str, str], Bound]:
    sys.path.insert(0, str(FOLDER))
    plugin = _load(EntryPoint("mutants", "unlearnbench_mutants.plugin", GROUP), "unlearnbench-mutants", "0")
    assert not plugin.error, plugin.error
    every = checks_of_plugin(plugin, [load_plugins()[0], plugin])
    return {(one.bench.spec.name, name_of(one.check)): one for one in every}


@cache
def outcome(component: str, check: str) -> Outcome:
    return bound()[component, check].outcome()


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_method_passes_everything(name: str) -> None:
    # The mutants are not installed, so a fresh process cannot import them.
    checks = [check for component, check in bound() if component == name and check != "loads-light"]
    bad = [found for found in (outcome(name, check) for check in checks) if found.status == "failed"]
    assert len(checks) > 30
    assert not bad


@pytest.mark.parametrize(("mutant", "check"), CAUGHT_BY.items())
def test_the_kit_catches(mutant: str, check: str) -> None:
    found = outcome(mutant, check)
    assert found.status == "failed", found
    assert NAMED.get(mutant, "") in found.message
    assert found.message


def test_a_method_says_what_it_does_not_depend_on_and_is_held_to_it() -> None:
    for check in ("row-order-does-not-matter", "batch-size-does-not-matter"):
        assert outcome("correct-in-full-steps", check).status == "passed"
        assert outcome("correct", check).message == "does not declare it"


def test_every_mutant_has_its_check_and_the_table_is_printed() -> None:
    names = {name for name, _ in bound()}
    assert names == {*CORRECT, *CAUGHT_BY}
    width = max(map(len, CAUGHT_BY))
    for mutant, check in CAUGHT_BY.items():
        print(f"{mutant:<{width}}  {check}: {outcome(mutant, check).message[:90]}")  # noqa: T201


def test_the_table_in_the_documents_is_this_one() -> None:
    from unlearnbench_mutants import plugin

    hooks = (plugin.unlearnbench_unlearners, plugin.unlearnbench_measures)
    hooks += (plugin.unlearnbench_models, plugin.unlearnbench_datasets)
    bugs = {spec.name: spec.summary for hook in hooks for spec in hook()}
    page = Path(__file__).parent.parent / "docs" / "how-to" / "check-a-plugin.md"
    shown = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    assert shown == [f"| {bugs[mutant]} | `{check}` |" for mutant, check in CAUGHT_BY.items()]
