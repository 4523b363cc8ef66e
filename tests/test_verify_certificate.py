"""Certificates are worked out again from what lies beside the record, and nothing can be changed about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import patched_models
import pytest
import torch
from forging import certificates, copied, edit, forge, forge_tensors, read, tensors_of
from toys_support import CLASS, EDGES, graph, images, one_record, toy_registry

from unlearnbench.api.errors import DataError, IncompatibleError, PluginError
from unlearnbench.api.runtime import Finding, VerifyJob
from unlearnbench.certificates import verify_certificates
from unlearnbench.record import PREDICTIONS, PROOFS, RECORD, Record, read_record
from unlearnbench.schemas import schema
from unlearnbench.served import CERTIFICATE, check_certificate
from unlearnbench.spec import RunSpec

STREAM = (EDGES, {"kind": "nodes", "count": 2}, {**EDGES, "seed": 1})
TOYS = Path(__file__).parent / "fixtures" / "plugins" / "toys"

Tampering = Callable[[Path], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of three requests with seeds that differ, so that no stream of numbers stands for another."""
    seeds = {"train": [3], "unlearn": [4], "measure": [5]}
    return one_record(tmp_path_factory.mktemp("stream"), graph("toy-scalegun", *STREAM, seeds=seeds)).folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One request."""
    return one_record(tmp_path_factory.mktemp("single"), graph("toy-scalegun")).folder


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of a method that brings no verifier."""
    return one_record(tmp_path_factory.mktemp("redirecting"), images("toy-prune")).folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a certificate."""
    return one_record(tmp_path_factory.mktemp("plain"), images("identity", CLASS)).folder


def findings_of(run: Path) -> list[Finding]:
    return verify_certificates(read_record(run), toy_registry())


def wrong(run: Path) -> list[str]:
    """What is wrong about a run, by name."""
    return [finding.what for finding in findings_of(run) if not finding.fine]


# -- what was written holds --------------------------------------------------------------------------------------------


def test_every_certificate_of_a_stream_is_verified_down_to_its_numbers(run: Path) -> None:
    found = {finding.what: finding for finding in findings_of(run)}
    assert all(finding.fine for finding in found.values())
    for step in range(3):
        assert f"residual of request {step}" in found
        assert f"budget of request {step}" in found
        assert f"noise of request {step}" in found
    assert found["certificates"].found == "3 for 3 requests"
    assert found["weights after requests 0 to 2"].found == "3 that agree"
    assert found["train rows"].stated == found["train rows"].found


def test_a_single_request_has_its_certificate_verified(single: Path) -> None:
    found = findings_of(single)
    assert all(finding.fine for finding in found)
    assert "residual of request 0" in [finding.what for finding in found]


# -- what was changed is found -----------------------------------------------------------------------------------------


def flip(name: str, place: int) -> Tampering:
    """Change one byte of a file."""

    def change(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[place] ^= 1
        (run / name).write_bytes(content)

    return change


def state(step: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Put other values into the certificate after a request, wherever it stands."""

    def change(document: dict[str, Any]) -> None:
        document["stream"][step]["certificate"] |= values
        if step == len(document["stream"]) - 1:
            document["certificate"] |= values

    return change


def spec_of(document: dict[str, Any], **values: Any) -> None:
    """Change the spec and what the record derives from it."""
    document["spec"] |= values
    spec = RunSpec.from_json(document["spec"])
    document |= {"spec_id": spec.id, "id": spec.run_id()}


def with_alpha(document: dict[str, Any]) -> None:
    """More noise than was drawn allows a larger budget."""
    unlearner = deepcopy(document["spec"]["unlearner"])
    unlearner["params"]["alpha"] *= 10
    spec_of(document, unlearner=unlearner)
    for certificate in certificates(document):
        certificate["budget"] *= 10


def with_another_request(document: dict[str, Any]) -> None:
    requests = deepcopy(document["spec"]["requests"])
    requests[2]["seed"] = 7
    spec_of(document, requests=requests)


def swap_models(run: Path) -> None:
    """Weights of the first and the second request change places, and everything that names them agrees."""
    tensors = tensors_of(run)
    (first,), (second,) = ([name for name in tensors if name.startswith(f"{k}/model/")] for k in (0, 1))
    tensors[first], tensors[second] = tensors[second], tensors[first]
    forge_tensors(run, tensors)


def other_noise(run: Path) -> None:
    tensors = tensors_of(run)
    forge_tensors(run, {k: torch.randn_like(v) if "/proof/" in k else v for k, v in tensors.items()})


def other_weights(run: Path) -> None:
    """Weights that the certificate never spoke of, named by the models but not by the certificate."""
    tensors = tensors_of(run)
    (last,) = (name for name in tensors if name.startswith("2/model/"))
    before = read(run)["certificate"]["digests"]
    forge_tensors(run, {**tensors, last: tensors[last] * 2})
    forge(run, state(2, digests=before))


def with_tensor(name: str) -> Tampering:
    return lambda run: forge_tensors(run, {**tensors_of(run), name: torch.zeros(2)})


def proofs_are(content: Callable[[bytes], bytes]) -> Tampering:
    """Other bytes in place of the tensors, with a digest that fits them."""

    def change(run: Path) -> None:
        (run / PROOFS).write_bytes(content((run / PROOFS).read_bytes()))
        forge(run)

    return change


def forged(change: Callable[[dict[str, Any]], object]) -> Tampering:
    return lambda run: forge(run, change)


def edited(change: Callable[[dict[str, Any]], object]) -> Tampering:
    return lambda run: edit(run, change)


HUGE = (2**56).to_bytes(8, "little") + b'{"a":'
SEAL = "seal of the record"
SPEC = ["spec of the run", "name of the run"]
NOISE = [f"noise of request {step}" for step in range(3)]

TAMPERING: dict[str, tuple[Tampering, list[str]]] = {
    "a byte of the tensors": (flip(PROOFS, -3), [PROOFS]),
    "a byte of their header": (flip(PROOFS, 12), [PROOFS]),
    "a byte of the predictions": (flip(PREDICTIONS, 200), ["predictions"]),
    "a number": (edited(state(1, residual=0.25)), [SEAL]),
    "a number, digested": (forged(state(1, residual=0.25)), ["residual of request 1"]),
    "a cost": (edited(lambda d: d["costs"]["unlearn"].update(cpu_s=0.0)), [SEAL]),
    "a version": (edited(lambda d: d["environment"].update(cores=0)), [SEAL]),
    "swapped models": (swap_models, ["residual of request 0", "residual of request 1"]),
    "other noise": (other_noise, NOISE),
    "other weights": (other_weights, ["model of the certificate after request 2"]),
    "a shorter stream": (forged(lambda d: d["stream"].pop()), ["certificates", "certificate of the record"]),
    "a certificate left out": (forged(lambda d: d["stream"][1].update(certificate=None)), ["certificates"]),
    "another last one": (forged(lambda d: d["certificate"].update(residual=0.0)), ["certificate of the record"]),
    "epsilon": (forged(state(2, epsilon=0.1)), ["epsilon, delta and ridge of request 2"]),
    "a request counted twice": (forged(state(1, served=3)), ["requests served at request 1"]),
    "the spec": (forged(lambda d: d["spec"]["unlearner"]["params"].update(epsilon=9.0)), SPEC),
    "more noise in the spec": (forged(with_alpha), NOISE),
    "another request": (forged(with_another_request), ["request 2"]),
    "a request that fits no data": (
        forged(lambda d: spec_of(d, requests=[*d["spec"]["requests"][:2], {"kind": "edges", "pairs": [[0, 4000]]}])),
        ["requests"],
    ),
    "another data set": (forged(lambda d: spec_of(d, dataset={"name": "wine", "params": {}})), ["requests"]),
    "rows of another data set": (forged(lambda d: d["data"]["test"].update(digest="0" * 64)), ["test rows"]),
    "a file of another data set": (forged(lambda d: d["data"]["files"].update({"x.npz": "0" * 64})), ["file x.npz"]),
    "another retain set": (
        forged(state(0, digests={"data": "0" * 64})),
        [f"{what} of the certificate after request 0" for what in ("model", "proof", "data")],
    ),
    "a parameter that is not one": (
        forged(lambda d: d["spec"]["unlearner"]["params"].update(epsilon=-1.0)),
        SPEC,
    ),
    "another network": (
        forged(lambda d: d["models"]["unlearned"][1]["ref"].update(inputs=[7])),
        ["network after request 1"],
    ),
    "a schema that it does not follow": (
        forged(lambda d: d["stream"][0]["certificate"].update({"$schema": CERTIFICATE})),
        ["form of the certificate after request 0"],
    ),
    "no word of proofs": (forged(lambda d: d.pop("proofs")), [PROOFS]),
    "cut off": (proofs_are(lambda content: content[:-8]), [PROOFS]),
    "empty": (proofs_are(lambda content: b""), [PROOFS]),
    "a pickle": (proofs_are(lambda content: b"\x80\x04\x95" + content), [PROOFS]),
    "a header of 2^56 bytes": (proofs_are(lambda content: HUGE), [PROOFS]),
    "a tensor too many": (with_tensor("3/model/w"), [PROOFS]),
    "a tensor elsewhere": (with_tensor("../../w"), [PROOFS]),
    "a weight too many": (with_tensor("1/model/w"), ["network after request 1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERING)
def test_what_was_changed_is_found(name: str, run: Path, tmp_path: Path) -> None:
    tamper, expected = TAMPERING[name]
    changed = copied(run, tmp_path / "run")
    tamper(changed)
    found = wrong(changed)
    assert found[0] in expected  # nothing before it was wrong already
    assert set(expected) <= set(found)


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    children = [(*path, key) for key, _ in inner]
    for child in children:
        yield from leaves(node[child[-1]], child)
    if not children:
        yield path


def replace_at(document: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """Put another value into a document."""
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = another(place[path[-1]])


def another(value: Any) -> Any:
    """Another value, as near in kind as there is."""
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else {} if value is None else [7] if value == [] else {"x": 7}


def test_no_value_of_a_record_can_be_changed_unnoticed(single: Path) -> None:
    document = read(single)
    paths = list(leaves(document))
    assert len(paths) > 150
    for path in paths:
        changed = deepcopy(document)
        replace_at(changed, path)
        findings = verify_certificates(Record(changed, single), toy_registry())
        assert not all(finding.fine for finding in findings), path


def test_after_a_failed_check_nothing_that_rests_upon_it_is_looked_at(run: Path, tmp_path: Path) -> None:
    changed = copied(run, tmp_path / "run")
    edit(changed, state(1, residual=0.25))
    assert "train rows" not in [finding.what for finding in findings_of(changed)]


# -- what is not there -------------------------------------------------------------------------------------------------


def test_missing_tensors_are_missing_and_not_wrong(run: Path, tmp_path: Path) -> None:
    changed = copied(run, tmp_path / "run")
    (changed / PROOFS).unlink()
    with pytest.raises(DataError, match=r"\[missing-file\] .*proofs\.safetensors"):
        findings_of(changed)


def test_a_method_without_a_verifier_is_told_apart_from_a_wrong_certificate(redirecting: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"\[no-verifier\] unlearner toy-prune: brings no verifier"):
        findings_of(redirecting)


@pytest.mark.parametrize("answer", [[], ["fine"], [Finding(what="a", stated="b", found="c", fine=1)]])  # type: ignore[arg-type]
def test_a_verifier_must_find_something(answer: list[Any], single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearnbench_toys.scalegun import ScaleGun

    def verify(self: object, job: VerifyJob) -> list[Any]:
        return answer

    monkeypatch.setattr(ScaleGun, "verify", verify)
    with pytest.raises(PluginError, match="verify must yield Finding objects, at least one"):
        findings_of(single)


def test_what_a_verifier_refuses_to_look_at_is_wrong(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearnbench_toys.scalegun import ScaleGun

    def verify(self: object, job: VerifyJob) -> list[Any]:
        raise DataError("wrong-state", "it holds no noise")

    monkeypatch.setattr(ScaleGun, "verify", verify)
    found = findings_of(single)[-1]
    assert (found.what, found.found, found.fine) == ("certificates", "it holds no noise", False)


# -- certificates under the schema -------------------------------------------------------------------------------------


def test_a_certificate_is_held_to_the_schema_that_it_names_and_to_no_other() -> None:
    (example,) = schema("certificate")["examples"]
    check_certificate(example, "mine")
    check_certificate({"claim": "anything", "why": 7}, "mine")
    check_certificate(None, "mine")
    for broken in (
        {**example, "why": 7},
        {k: v for k, v in example.items() if k != "terms"},
        {**example, "claim": "x"},
    ):
        with pytest.raises(PluginError, match=r"\[broken-contract\] unlearner mine: its certificate does not follow"):
            check_certificate(broken, "mine")


def test_a_run_whose_certificate_breaks_its_schema_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toys_support import run_toys
    from unlearnbench_toys.scalegun import ScaleGun

    own = ScaleGun.unlearn

    def unlearn(self: Any, job: Any) -> Any:
        result = own(self, job)
        result.certificate = {**(result.certificate or {}), "$schema": CERTIFICATE}
        return result

    monkeypatch.setattr(ScaleGun, "unlearn", unlearn)
    outcome = run_toys(tmp_path, graph("toy-scalegun"))
    assert outcome.records[0].status == "failed"
    assert outcome.problems[0].code == "broken-contract"


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toys, installed by pip."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--target", str(target), str(TOYS)]
    made = subprocess.run([*command, *offline], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return target


def command(site: Path | None, *arguments: str | Path, names: str = "toys") -> subprocess.CompletedProcess[str]:
    """Run ``unlearnbench verify-certificate`` in a process of its own, with the toys or without."""
    path = {} if site is None else {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", "unlearnbench", "verify-certificate", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "UNLEARNBENCH_PLUGINS": names, **path},
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_the_command_verifies_a_folder_and_says_what_had_no_certificate(
    site: Path, run: Path, single: Path, plain: Path, tmp_path: Path
) -> None:
    for each in (run, single, plain):
        copied(each, tmp_path / "runs" / each.name)
    done = command(site, tmp_path / "runs")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "4 certificates verified; 1 record without a certificate"
    assert any(line.startswith("fine   residual of request 2: stated ") for line in lines)
    assert not any(line.startswith("WRONG") for line in lines)


def test_the_command_finds_every_tampering(site: Path, run: Path, tmp_path: Path) -> None:
    for place, (tamper, _) in enumerate(TAMPERING.values()):
        tamper(copied(run, tmp_path / f"{place}" / run.name))
    (copied(run, tmp_path / "not-json" / run.name) / RECORD).write_text("{")
    done = command(site, "--json", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    results = json.loads(done.stdout)
    assert len(results) == len(TAMPERING) + 1
    assert not any(result["verified"] for result in results)
    assert [Path(result["path"]).parts[-3] for result in results if result["error"]] == ["not-json"]


def test_the_command_prints_what_is_wrong_and_then_how_many(site: Path, run: Path, tmp_path: Path) -> None:
    changed = copied(run, tmp_path / "run")
    forge(changed, state(1, residual=0.25))
    done = command(site, changed / RECORD)
    assert (done.returncode, done.stderr) == (1, "")
    wrong_lines = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert len(wrong_lines) == 1
    assert wrong_lines[0].startswith("WRONG  residual of request 1: stated 0.25, found ")
    assert done.stdout.splitlines()[-1] == "0 certificates verified; 1 record not verified"


def test_the_command_says_which_plugin_is_missing(run: Path) -> None:
    done = command(None, run)
    assert done.returncode == 3
    assert done.stderr.startswith("error: [missing-plugin] ")
    assert "toy-scalegun" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_tells_missing_files_from_wrong_ones_and_usage_from_both(
    site: Path, run: Path, plain: Path, tmp_path: Path
) -> None:
    changed = copied(run, tmp_path / "run")
    (changed / PROOFS).unlink()
    missing = command(site, changed)
    assert (missing.returncode, missing.stderr.count("\n")) == (5, 1)
    assert missing.stderr.startswith("error: [missing-file] ")
    nothing = command(site, plain)
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("error: [nothing-to-verify] 1 record without a certificate")


# -- certificates that stand alone -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patched model and the certificates of its two members."""
    folder = tmp_path_factory.mktemp("alone")
    made = patched_models.patched(1, [[0.3, -0.2, 0.5], [-0.6, 0.4, 0.1]])
    made.save(folder / "model.safetensors")
    for member, name in enumerate(("first", "-second")):
        patched_models.written(folder / f"{name}.json", patched_models.certificate(made, member, owner=False))
    patched_models.written(folder / "wrong.json", patched_models.certificate(made, margin=5.0))
    np.save(folder / "first.npy", made.points[0])
    before = {"step": 0, "base": made.base, "patched": "ab" * 32, "requests": [], "previous": None}
    patched_models.written(folder / "issue.json", before)
    patched_models.written(
        folder / "later.json",
        patched_models.certificate(
            made, chain={"step": 1, "previous": patched_models.sha(patched_models.canonical(before))}
        ),
    )
    return folder


def test_a_certificate_that_stands_alone_goes_to_the_verifier_of_its_method(alone: Path) -> None:
    model = ("--model", alone / "model.safetensors")
    both = command(None, alone / "first.json", alone / "-second.json", *model, names="prune")
    assert (both.returncode, both.stderr) == (0, "")
    assert both.stdout.splitlines()[-1] == "2 of 2 certificates verified"
    assert command(None, alone / "wrong.json", *model, names="prune").returncode == 1
    as_json = command(None, alone / "first.json", *model, "--json", names="unlearnbench-verifier")
    assert json.loads(as_json.stdout)[0]["verified"] is True


def test_every_option_reaches_the_verifier(alone: Path, tmp_path: Path) -> None:
    target = json.loads((alone / "first.json").read_text())["target"]
    label = str((target + 1) % 3)
    options = ["--model", alone / "model.safetensors", "--sample", alone / "first.npy", "--label", label, "--exact"]
    given = command(None, alone / "first.json", *options, names="prune")
    assert "fine   sample: is in the box and in the region" in given.stdout
    assert f"fine   target: {target} is not the sample's own label" in given.stdout
    step = command(None, alone / "later.json", *options[:2], "--previous", alone / "issue.json", names="prune")
    assert "fine   chain: step 1 goes on from the issue of step 0" in step.stdout
    points = tmp_path / "points.npy"
    drawn = command(None, alone / "first.json", *options[:2], "--draw", points, "--points", "7", names="prune")
    assert (drawn.returncode, np.load(points).shape) == (0, (7, 3))
    seed = drawn.stdout.split("--seed=")[1].split()[0]
    np.save(tmp_path / "answers.npy", np.full(7, target))
    answers = ["--challenge", tmp_path / "answers.npy", "--points", "7", "--seed", seed]
    asked = command(None, alone / "first.json", *options[:2], *answers, names="prune")
    assert "fine   challenge: 7 points of the region: 0 violations" in asked.stdout


def test_a_method_without_an_installed_verifier_is_said(alone: Path, tmp_path: Path) -> None:
    model = ("--model", alone / "model.safetensors")
    document = json.loads((alone / "first.json").read_text())
    other = patched_models.written(tmp_path / "other.json", {**document, "method": "nobodys"})
    for path, names in ((other, "prune"), (alone / "first.json", "toys")):  # none there, or none that may be loaded
        done = command(None, path, *model, names=names)
        assert done.returncode == 3
        assert done.stderr.startswith(f"error: [no-verifier] method {'nobodys' if path == other else 'prune'}: ")
        assert done.stderr.count("\n") == 1


def test_what_is_no_certificate_is_told_apart(alone: Path, single: Path, tmp_path: Path) -> None:
    model = ("--model", alone / "model.safetensors")
    (tmp_path / "cut.json").write_text((alone / "first.json").read_text()[:300])
    for path, code, error in (
        (tmp_path / "missing.json", 5, "[missing-file] "),
        (tmp_path / "cut.json", 5, "[bad-json] "),
        (alone / "first.npy", 5, "[missing-file] "),
        (alone / "issue.json", 2, "[nothing-to-verify] "),
        (single / RECORD, 2, "[nothing-to-verify] "),
    ):
        done = command(None, path, *model, names="prune")
        assert (done.returncode, done.stderr[:7] + done.stderr[7 : 7 + len(error)]) == (code, f"error: {error}")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option", ["--sample=x.npy", "--label=1", "--exact", "--previous=x", "--challenge=x", "--points=3"]
)
def test_options_of_certificates_that_stand_alone_need_their_model(option: str, single: Path) -> None:
    done = command(None, single, option)
    assert (done.returncode, done.stdout) == (2, "")
    name = option.partition("=")[0]
    assert done.stderr.startswith(f"error: [usage] unlearnbench verify-certificate: {name} needs --model: ")
