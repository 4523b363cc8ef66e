"""Every error code that our code can raise, found in its source, and what a person can do about each.

The codes come from the syntax tree, so that none is forgotten; the advice is written by hand. ``tools/reference.py``
makes the page of both, and a test sees to it that every code has advice and no advice is left without a code.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unlearnbench.api.specs import SPEC_TYPES

ROOT = Path(__file__).resolve().parent.parent
BASE = "UnlearnBenchError"

# Functions that are given the code, or a part of it, and raise or return the error: how the code is made of it.
_MAKERS = {"unknown": "unknown-{}", "one_line": "{}", "wrong_file": "{}", "fault": "{}"}
# What a name stands for that gets its value from outside the function: (file, name) -> values.
_OUTSIDE = {
    ("registry.py", "kind"): tuple(SPEC_TYPES),
    ("selectors.py", "word"): ("class", "target"),
}

ADVICE = {
    "ambiguous-name": "Say with `--kind` which of the components you mean.",
    "bad-annotations": "Mend or leave out the labels, the mask or the boxes of the row that the line names.",
    "bad-archive": "Zip the folder again with a plain tool, without comments or encryption, or submit the folder "
    "itself.",
    "bad-budget": "Give a time in seconds, more than 0.",
    "bad-data": "Look at what the line says about the rows, and mend the data; images of one size are needed, "
    "classes that are the same in training and test rows, and ids that are unique.",
    "bad-file": "Name the file .yaml, .json or .toml, after what it is.",
    "bad-ids": "Write one whole number in a line, and nothing else.",
    "bad-json": "Mend the JSON at the place that is named; there are limits to size and depth.",
    "bad-key": "Use an unencrypted elliptic-curve key in PEM form; the line has the command that makes one.",
    "bad-labels": "Number the classes from 0 without gaps, or name as many classes as there are.",
    "bad-level": "Ask for `recomputed-metrics`, `recomputed-from-weights` or `rerun`; self-reported is what every "
    "submission is.",
    "bad-measure": "Name the measure alone and set its parameters with `--set`; only some take a text after a colon, "
    "and `unlearnbench show NAME` says which.",
    "bad-model": "Take another model, or other parameters of it: it does not fit the shape of the rows.",
    "bad-name": "Choose a name of lower-case words joined by `-`, without the prefix of the distribution.",
    "bad-output": "End the file after `-o` in one of the endings that the line names; `--json` needs `--table`.",
    "bad-parameter": "Look up type and range with `unlearnbench show NAME`; the line names the parameter.",
    "bad-partition": "Give each part one name that a later step uses, and ranges that hold rows; `train` is there "
    "from the start.",
    "bad-patterns": "The patterns are not of this network; patch the model again.",
    "bad-predictions": "Bundle the predictions of the run itself: rows, outputs and numbers must be those of its "
    "record.",
    "bad-request": "Write the request as in `unlearnbench run --help` (random=0.1, class=3, ids=1,2) or as JSON.",
    "bad-retraction": "Mend `retractions.yaml` at the place that is named.",
    "bad-sample": "Give `--sample` together with `--level rerun`, and `--seed` together with `--sample`.",
    "bad-seeds": "Give either `--seed` or `--seeds`, the latter as train=0,1,2 or unlearn=0..4.",
    "bad-setting": "Write `--set COMPONENT.PARAMETER=VALUE`, for example `--set salun.epochs=5`.",
    "bad-split": "Ask for fewer test rows, or drop classes that have hardly any row.",
    "bad-statement": "Bundle again: the statement must name exactly the files that are there.",
    "bad-suite": "Name each scenario of a suite once.",
    "bad-tensors": "Write tensors with `unlearnbench leaderboard bundle`: only plain safetensors are read.",
    "bad-toml": "Mend the TOML at the line that is named.",
    "bad-value": "Change the value at the place that is named; the line says what is allowed there.",
    "bad-yaml": "Mend the YAML at the line that is named; a key may stand only once.",
    "broken-contract": "As a user, report it to the plugin's maintainers; as its author, change what the line names: "
    "what a call into a plugin returns and leaves behind is checked.",
    "broken-plugins": "See `unlearnbench plugins` for the causes; reinstall or remove what is broken.",
    "budget-exceeded": "Raise `--budget`, or make the method cheaper by its parameters.",
    "cannot-export": "A committed gate cannot run without Python; export a model with gate exact or support.",
    "cannot-listen": "Choose another `--port`, or a `--host` of this machine.",
    "cannot-write": "Choose a folder that you may write to, with space left: `--out`, and `--store` of a run.",
    "conflicting-options": "Give one of the two options.",
    "control-outside-band": "Train original and gold as the suite says: other models come out than those of the suite.",
    "corrupt-file": "Remove the file and get it again: it is cut off, changed or of another kind.",
    "damaged-entry": "Nothing need be done: the entry of the store is not used, and the model is made anew.",
    "diverged": "Lower the learning rate or clip gradients: a weight of a model is not finite.",
    "duplicate-edges": "Name each edge once; [3, 14] and [14, 3] are the same.",
    "duplicate-file": "Leave one of the two files.",
    "duplicate-ids": "Name each id once.",
    "duplicate-name": "Uninstall one of the two plugins, or leave it out with `UNLEARNBENCH_PLUGINS`.",
    "duplicate-nodes": "Name each node once.",
    "duplicate-run": "Pack each run once.",
    "duplicate-submission": "Name one of the two otherwise, or leave one out.",
    "empty-forget-set": "Ask for rows that are in the training data; what was forgotten before is no longer there.",
    "empty-holdout": "Keep more test rows, or forget rows of a class or group that test rows belong to as well.",
    "empty-part": "Ask for rows that are in the part that the step takes from; the line names the step.",
    "empty-retain-set": "Forget less: nothing would be left to keep.",
    "empty-validation": "Choose a larger or smaller share of validation rows: both sides need some.",
    "fetch-failed": "Try again later, or put the files into the folder yourself.",
    "folder-not-empty": "Choose an empty or new folder: nothing that is there is written over.",
    "foreign-run": "Pack runs of the suite alone: its scenarios and its seeds.",
    "incompatible": "Choose another unlearner, measure, model or request; the line says what does not go together.",
    "interrupted": "Give the same command again: it goes on from where it stopped.",
    "later-parameter": 'As the plugin\'s author, mark the parameter with `Param(..., phase="...")` of the phase '
    "that reads it first; as a user, report it.",
    "mismatch": "Install torch and torchvision together, by name, so that pip picks versions that belong together.",
    "missing-column": "Name a column that the file has; the line lists them.",
    "missing-extra": "Install the extra of the plugin that the line names: a library is needed that is not there.",
    "missing-file": "Check the path; files of data sets are looked for below the data folder.",
    "missing-plugin": "Install the distributions that the line or the record names, or choose measures one by one with "
    "`--measure`.",
    "missing-predictions": "Bundle the predictions of every finished run.",
    "missing-seed": "Run the suite for every seed: a scenario may be left out, a seed of it may not, whatever came of "
    "it.",
    "missing-values": "Fill the gaps in, or leave out a column of numbers with `csv.drop` or `csv.groups`.",
    "name-taken": "Choose another name: something that is installed has this one already.",
    "no-certificate": "Name a run of prune: others have no certificates to hand out.",
    "no-class-left": "Leave a class out of the requests: one must be predicted.",
    "no-device": "Compute on another device, for example `--device cpu`.",
    "no-fitting-records": "Run with the measures that the line names; failed or changed records do not count.",
    "no-graph": "Name a run of essential-graph: others leave no graph.",
    "no-instance": "Use data that show every target, or keep more rows for validation.",
    "no-pictures": "Run with `--measure target-inversion`, which makes the pictures.",
    "no-predictions": "Bundle the predictions of the run, or ask for readings of another one.",
    "no-records": "Name a folder that holds runs, or a record itself.",
    "no-unlearner": "Add `--unlearner NAME`, or `unlearners` to the experiment file.",
    "no-validation": "Keep rows with `--validation 0.1`, or choose sigma and delta yourself.",
    "no-verifier": "The method brings no way to verify its certificates; they can only be read.",
    "no-weights": "Pack with `--weights`, or verify at another level.",
    "norm-in-training": "Call `base.eval()` before rows of gates are used.",
    "not-a-plain-file": "Put the file itself there: links, folders and devices are not followed.",
    "not-a-site": "Name a folder that `unlearnbench leaderboard build` made, or one that is not there yet.",
    "not-available": "Nothing need be done: what a submission does not hold is not compared at this level.",
    "not-converged": "Raise `tolerance`, or `ridge`, which makes the objective rounder.",
    "not-fetchable": "Nothing can be downloaded: the data set comes with a package, or you must put its files there.",
    "not-finite": "The original has diverged: lower its learning rate.",
    "nothing-attacked": "Name the submission that is attacked, and attack runs that it has.",
    "nothing-to-validate": "Name a folder that holds runs, or a record itself.",
    "nothing-to-verify": "Name a run whose unlearner certifies something.",
    "one-class": "Name the column of the class (`csv.label`), or bring rows of another class: there is a single one.",
    "other-data": "Run the suite on its own data: the record saw other rows than the verifier has.",
    "other-runs": "Attack the runs of the entry: the same unlearner, parameters and seeds, under other measures.",
    "other-spec": "Run it with `unlearnbench run --suite`: the field that is named is not what the suite fixes.",
    "other-suite": "Use the version of UnlearnBench that has this suite; a suite never changes.",
    "other-version": "Install the version of the plugin that the line names, or run again with the one that is "
    "installed.",
    "outside-box": "Declare a box that holds every row (low, high), or leave both out.",
    "over-budget": "Tune within the suite's budget: `unlearnbench leaderboard suites NAME` says how many settings it "
    "allows.",
    "plugin-broken": "Reinstall or remove the distribution that is named; the cause stands in the line.",
    "plugin-raised": "Report it to the plugin's maintainers; `UNLEARNBENCH_TRACEBACK=1` shows where it comes from.",
    "private-access": "As the plugin's author, read data through the public methods of views only.",
    "self-loops": "Name edges between two different nodes; methods add loops of their own.",
    "several-settings": "Pack one setting of an unlearner for each scenario; another setting is another submission.",
    "signing-failed": "Sign with a key of your own, or where the network reaches sigstore.",
    "too-few-layers": "Choose a smaller window, or a deeper network.",
    "too-few-rows": "Ask for fewer rows: the data set, or the part that a step takes from, has no more.",
    "too-large": "Split the submission, or leave out the weights: there are limits to files, sizes and packing.",
    "too-long": "Raise `max_length`, or set `too_long=truncate`: a text has more tokens than are allowed.",
    "tracking-failed": "The records are safe; once MLflow can be reached, run `unlearnbench tracking sync`.",
    "two-trainers": "Keep one of the stages: only one method of a chain can train the original.",
    "undeclared-read": "As the plugin's author, add what is read to `reads` of the spec; as a user, report it.",
    "unexpected-file": "Leave only the files of a submission there, all of them listed in `submission.json`.",
    "unknown-board": "See `unlearnbench leaderboard show` without `--suite` for the boards that there are.",
    "unknown-check": "See `unlearnbench check --help` and the table of a run for the names of checks.",
    "unknown-class": "Name a class of the data set; the line lists what there is.",
    "unknown-column": "Name a column that the data set has; the line lists what there is.",
    "unknown-command": "See `unlearnbench --help` for the commands.",
    "unknown-component": "See `unlearnbench list` for what is installed; with `--set`, name a part of this run.",
    "unknown-dataset": "See `unlearnbench list datasets`, or install the plugin that brings it.",
    "unknown-distribution": "Name a distribution that is installed and has components; see `unlearnbench plugins`.",
    "unknown-edges": "Name edges that the graph has, as pairs of node ids.",
    "unknown-group-value": "Name a value that the column has; the line lists what there is.",
    "unknown-ids": "Name ids of training rows that have not been forgotten before.",
    "unknown-measure": "See `unlearnbench list measures`, or install the plugin that brings it.",
    "unknown-model": "See `unlearnbench list models`, or install the plugin that brings it.",
    "unknown-nodes": "Name nodes of the graph, from 0 to their number less one.",
    "unknown-parameter": "See `unlearnbench show NAME` for the parameters.",
    "unknown-preprocessing-step": "Name one of the steps that the line lists.",
    "unknown-profile": "Take smoke, standard, audit or gold.",
    "unknown-property": "Remove or rename the property; its schema lists what may stand there.",
    "unknown-reading": "Name a reading by its key, such as `accuracy.forget`; `unlearnbench compare RUNS --json` lists "
    "those that are compared without being asked for.",
    "unknown-request-kind": "See the schema of requests for the kinds: `unlearnbench schema request`.",
    "unknown-row": "Name a row from 0 to the number of classes less one.",
    "unknown-scenario": "See `unlearnbench list scenarios`; the version is part of the name.",
    "unknown-schema": "See `unlearnbench schema` for the names; a later version needs a newer UnlearnBench.",
    "unknown-step": "Name `train` or an earlier step of the partition; the part to be forgotten is named `forget`.",
    "unknown-suite": "See `unlearnbench leaderboard suites`; where runs fit none or several, give `--suite`.",
    "unknown-table": "See `unlearnbench list tables`, or install the plugin that brings it.",
    "unknown-target": "Name a target of the data set; the line lists what there is.",
    "unknown-unlearner": "See `unlearnbench list unlearners`, or install the plugin that brings it.",
    "unknown-value": "Choose one of the values that the line names.",
    "unreadable-data": "Get the files of the data set again; they are not what the data set's reader expects.",
    "unreadable-file": "Check what the file is, that you may read it, and that it is whole.",
    "unreadable-smiles": "Mend or drop the row that the line names: its text describes no molecule.",
    "unsafe-checkpoint": "Save `model.state_dict()` or a .safetensors file: this one could run code when it is read.",
    "unsafe-name": "Make the submission with `unlearnbench leaderboard bundle`: a file's name leads elsewhere.",
    "unsupported": "Use a version that is named in the line.",
    "unsupported-task": "Take a method or a parameter that is defined for the task.",
    "wrong-artifact": "Name the file that a run of the method left, whole and unchanged, or make it again.",
    "wrong-base": "Give the network that the file was made for: the original of the run that left it.",
    "wrong-checkpoint": "Name the model that the weights belong to, with its parameters.",
    "wrong-control": "Make the run again: controls must follow from the readings of the record.",
    "wrong-digest": "Get the file again from where it was written: it was changed or cut off.",
    "wrong-id": "Give the run, its file and its record one name, which follows from the spec.",
    "wrong-name": "Name the file after the submission that it is about.",
    "wrong-outputs": "Bundle weights and predictions of one run: the weights give other outputs.",
    "wrong-plugins": "Pack the runs again: the list of plugins must be that of the records.",
    "wrong-proof": "Make the record again: its proofs are not what the method wrote.",
    "wrong-reading": "Make the run again: the reading is not what outputs, weights or the run itself give.",
    "wrong-record": "Make the run again: the record does not follow from its own spec.",
    "wrong-signature": "Do not trust the files: they or the key are not the signer's; get them again.",
    "wrong-state": "Prepare again: the stored state is not one of this graph and these rows.",
    "wrong-status": "Make the run again: it ends otherwise than its record says.",
    "wrong-weights": "Bundle the weights of the run itself: they must fit the network of its record.",
}
"""What to do about each error, in one sentence."""


@dataclass(frozen=True)
class Found:
    """One place that raises an error with a code."""

    code: str
    error: str
    file: Path


def source_files() -> list[Path]:
    """The code of the host and of the first-party plugins."""
    return [*sorted(ROOT.glob("unlearnbench/**/*.py")), *sorted(ROOT.glob("plugins/*/src/**/*.py"))]


def raised(files: Iterable[Path] | None = None) -> tuple[list[Found], list[str]]:
    """Every code with its error class, and the places where the code cannot be read from the source."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in (source_files() if files is None else files)}
    bases = _bases(trees.values())
    made = {name: _made_by(name, trees.values(), bases) for name in _MAKERS}
    found: set[Found] = set()
    unclear = []
    for path, tree in trees.items():
        for call, inside in _calls(tree):
            name = ast.unparse(call.func).rpartition(".")[2]
            error = name if name in bases else made.get(name)
            if not error or not call.args or inside in _MAKERS or _is_passed_on(call.args[0]):
                continue
            codes = _values(call.args[0], tree, path)
            if not codes:
                unclear.append(f"{path.name}:{call.lineno}: {ast.unparse(call.args[0])}")
            pattern = _MAKERS.get(name, "{}")
            found |= {Found(pattern.format(code).replace(" ", "-"), error, path) for code in codes}
    return sorted(found, key=lambda one: (one.code, one.error, one.file)), unclear


def problems() -> list[str]:
    """What is wrong with the advice: codes that lack it, advice for no code, and codes that cannot be read."""
    found, unclear = raised()
    codes = {one.code for one in found}
    return [
        *(f"tools/error_codes.py: cannot read the code of {place}" for place in unclear),
        *(f"tools/error_codes.py: no advice for {code}" for code in sorted(codes - set(ADVICE))),
        *(f"tools/error_codes.py: nothing raises {code}" for code in sorted(set(ADVICE) - codes)),
    ]


def public(error: str) -> str:
    """The class of the api that an error belongs to: the one that has an exit code of its own."""
    from unlearnbench.api import UnlearnBenchError

    known = {cls.__name__ for cls in UnlearnBenchError.__subclasses__()}
    while error not in known:
        error = _our_bases()[error]
    return error


@functools.cache
def _our_bases() -> dict[str, str]:
    return _bases(ast.parse(path.read_text("utf-8")) for path in source_files())


def _bases(trees: Iterable[ast.AST]) -> dict[str, str]:
    """Every error class by name, with its base."""
    classes = {
        node.name: ast.unparse(node.bases[0]).rpartition(".")[2]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.bases
    }

    def is_error(name: str) -> bool:
        return name == BASE or (name in classes and is_error(classes[name]))

    return {name: base for name, base in classes.items() if is_error(name)}


def _calls(tree: ast.AST, inside: str = "") -> Iterator[tuple[ast.Call, str]]:
    """Every call, with the name of the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, inside
        yield from _calls(node, node.name if isinstance(node, ast.FunctionDef) else inside)


def _made_by(maker: str, trees: Iterable[ast.AST], bases: dict[str, str]) -> str:
    """The error that a function makes which is given the code."""
    for tree in trees:
        for call, inside in _calls(tree):
            if inside == maker and ast.unparse(call.func) in bases:
                return ast.unparse(call.func)
    raise LookupError(f"{maker} makes no error any more; remove it from _MAKERS")


def _is_passed_on(node: ast.expr) -> bool:
    """The code is that of another error, which is found where it was raised first."""
    return isinstance(node, ast.Attribute) and node.attr == "code"


def _values(node: ast.expr, tree: ast.AST, path: Path) -> tuple[str, ...]:
    """The texts that an expression may stand for; none if that cannot be read from the source."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if isinstance(node, ast.IfExp):
        return (*_values(node.body, tree, path), *_values(node.orelse, tree, path))
    if isinstance(node, ast.Name):
        return _OUTSIDE.get((path.name, node.id), ())
    return ()
