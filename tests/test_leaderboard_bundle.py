"""Packing: what a submission holds, what it leaves out, what is refused, and that nothing is half-written."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from submissions import CREATED, QUICK, SCENARIO, STATED, edited, edited_reading, packed, read, run_of, tampered
from support import Done, assert_error, assert_one_error, call, environment, tree

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.identity import file_digest
from unlearnbench.leaderboard.compact import compact, log_probabilities
from unlearnbench.leaderboard.evidence import submitted_stages
from unlearnbench.leaderboard.read import outputs, read_submission, weights
from unlearnbench.leaderboard.recompute import compare, from_outputs
from unlearnbench.leaderboard.selection import only_suite, select
from unlearnbench.leaderboard.signing import _why, sign, verify_signature
from unlearnbench.leaderboard.suites import suite
from unlearnbench.record import (
    Record,
    arrays_digest,
    content_digest,
    find_records,
    pack_arrays,
    read_record,
    write_record,
)
from unlearnbench.registry import registry
from unlearnbench.runner import execute
from unlearnbench.schemas import validate
from unlearnbench.store import Store

pytest.importorskip("model_signing", reason="signatures need the extra unlearnbench[signing]")


@pytest.fixture(scope="module")
def records(suite_folder: Path) -> list[Record]:
    return [read_record(path) for path in find_records(suite_folder)]


def of(records: list[Record], unlearner: str) -> list[Record]:
    return [record for record in records if record.unlearner == unlearner]


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_a_submission_holds_every_run_as_it_was_recorded(small_submission: Path, records: list[Record]) -> None:
    submission = read_submission(small_submission)
    assert {run.id: run.record.document for run in submission.runs} == {
        str(record.document["id"]): record.document for record in records
    }
    assert {(run.unlearner, run.seed) for run in submission.runs} == {
        (name, seed) for name in ("identity", "finetune") for seed in range(5)
    }


def test_it_says_who_made_it_with_which_plugins_for_which_suite(small_submission: Path) -> None:
    document = read(small_submission / "submission.json")
    validate(document, "submission")
    assert document["suite"] == {"name": QUICK, "sha256": suite(QUICK).sha256}
    assert document["statement"] == {
        "authors": ["A. Author"],
        "paper": "https://example.org/paper",
        "licence": "CC-BY-4.0",
        "tuning": {"access": "none", "settings": 1},
        "notes": "a test",
    }
    assert {"unlearnbench", "unlearnbench-baselines"} <= {plugin["distribution"] for plugin in document["plugins"]}
    assert (document["name"], document["kind"], document["created"]) == ("small", "results", CREATED)


def test_the_statement_speaks_of_every_other_file(small_submission: Path) -> None:
    statement = read(small_submission / "statement.json")
    files = {file for file in tree(small_submission) if file != "statement.json"}
    assert [each["name"] for each in statement["subject"]] == sorted(files)
    assert all(
        each["digest"]["sha256"] == file_digest(small_submission / each["name"]) for each in statement["subject"]
    )
    assert statement["predicate"] == {"name": "small", "suite": QUICK, "runs": 10}


def test_models_that_runs_share_lie_there_once(small_submission: Path) -> None:
    identity, finetune = (run_of(small_submission, name, 0) for name in ("identity", "finetune"))
    for kind in ("predictions", "weights"):
        assert identity[kind]["gold"] == finetune[kind]["gold"]
        assert identity[kind]["original"] == finetune[kind]["original"] == identity[kind]["unlearned"]
        assert finetune[kind]["unlearned"] not in identity[kind].values()
    # Five seeds of an original, a gold model and a fine-tuned one.
    assert len(list((small_submission / "weights").iterdir())) == 15


def test_weights_are_those_that_the_records_name(small_submission: Path, records: list[Record]) -> None:
    submission = read_submission(small_submission)
    run = next(run for run in submission.runs if run.unlearner == "finetune")
    for subject in SUBJECTS:
        found = weights(submission, run, subject)
        assert (
            sum(tensor.numel() for tensor in found.values()) == run.record.document["models"][subject][0]["parameters"]
        )


def test_every_reading_of_predictions_comes_out_of_compact_outputs(small_submission: Path) -> None:
    submission, stages = read_submission(small_submission), submitted_stages(registry())
    judged = 0
    for run in submission.runs[::3]:
        given = {s: {k: torch.from_numpy(v) for k, v in outputs(submission, run, s).items()} for s in SUBJECTS}
        found = compare(run.record.document, from_outputs(run.record.document, given, stages), suite(QUICK).recompute)
        assert not found.wrong
        judged += found.count("same") + found.count("within")
    assert judged > 300


def test_packing_makes_predictions_and_records_much_smaller(small_submission: Path, records: list[Record]) -> None:
    def size(files: Iterator[Path]) -> int:
        return sum(file.stat().st_size for file in files)

    assert size((small_submission / "records").iterdir()) < 0.8 * sum(r.path.stat().st_size for r in records)
    assert size((small_submission / "predictions").iterdir()) < 0.6 * 15 * 1797 * 10 * 4


def test_the_same_runs_make_the_same_bytes(small_submission: Path, suite_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(suite_folder, tmp_path / "moved", ignore=shutil.ignore_patterns("store"))
    again = [read_record(path) for path in reversed(find_records(moved))]
    out = packed(again, tmp_path / "elsewhere" / "small", weights=Store(suite_folder / "store"))
    assert tree(out) == tree(small_submission)


# -- outputs in half precision ----------------------------------------------------------------------------------------

LOGITS = {
    subject: {
        split: np.random.default_rng([seed, rows]).normal(0, 8, (rows, 4)).astype(np.float32)
        for split, rows in (("forget", 5), ("retain", 40), ("test", 20), ("holdout", 5))
    }
    for seed, subject in enumerate(SUBJECTS)
}


def kinds(kept: Any) -> dict[str, str]:
    return {s: "".join("h" if a.dtype == np.float16 else "s" for a in splits.values()) for s, splits in kept.items()}


def test_log_probabilities_give_the_probabilities_of_the_logits() -> None:
    logits = np.array([[1e4, 0, -1e4], [0.5, 0.25, -3]], np.float32)
    found = log_probabilities(logits)
    assert found.dtype == np.float16
    exact = torch.softmax(torch.from_numpy(logits), 1)
    torch.testing.assert_close(torch.softmax(torch.from_numpy(found).float(), 1), exact, atol=5e-4, rtol=0)


def test_outputs_are_halved_where_all_readings_hold() -> None:
    assert kinds(compact(LOGITS, "classification", lambda tried: ())) == dict.fromkeys(SUBJECTS, "hhhh")


def test_only_the_model_whose_readings_do_not_hold_is_kept_more_precisely() -> None:
    def wrong(tried: Any) -> list[Any]:
        return [] if tried["gold"]["forget"].dtype == np.float32 else ["gold"]

    kept = compact(LOGITS, "classification", wrong)
    assert kinds(kept) == {"original": "hhhh", "gold": "shhs", "unlearned": "hhhh"}
    assert kept["gold"]["forget"] is LOGITS["gold"]["forget"]


def test_a_reading_that_depends_on_another_model_makes_the_others_more_precise_too() -> None:
    """As agreement does: it is a reading of the unlearned model, and gold's outputs are half of it."""

    def wrong(tried: Any) -> list[Any]:
        return [] if tried["gold"]["test"].dtype == np.float32 else ["unlearned"]

    kept = compact(LOGITS, "classification", wrong)
    assert kinds(kept)["gold"] == "ssss"


def test_outputs_that_never_hold_stay_exactly_as_they_were() -> None:
    kept = compact(LOGITS, "classification", lambda tried: SUBJECTS)
    assert all(kept[s][split] is LOGITS[s][split] for s in SUBJECTS for split in LOGITS[s])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_outputs_of_other_tasks_stay_exactly_as_they_were(task: str) -> None:
    assert compact(LOGITS, task, lambda tried: ()) is LOGITS


def test_outputs_that_are_not_finite_stay_exactly_as_they_were() -> None:
    broken = {**LOGITS, "unlearned": {"forget": np.full((5, 4), np.nan, np.float32)}}
    assert compact(broken, "classification", lambda tried: ()) is broken


# -- which runs -------------------------------------------------------------------------------------------------------


def test_runs_of_other_things_are_left_out_with_the_reason(records: list[Record], tmp_path: Path) -> None:
    def changed(record: Record, **spec: Any) -> Record:
        return rewritten(record, tmp_path / str(len(list(tmp_path.iterdir()))), spec=record.document["spec"] | spec)

    strangers = [
        changed(records[0], scenario="digits-cnn-random10/v1"),
        changed(records[0], seeds={"train": 9, "unlearn": 9, "measure": 9}),
        changed(records[0], seeds={"train": 0, "unlearn": 1, "measure": 0}),
        changed(records[0], measures=records[0].document["spec"]["measures"][:2]),
    ]
    found = select([*records, *strangers], suite(QUICK), registry())
    assert list(found.records) == records
    assert {why: len(runs) for why, runs in found.left_out.items()} == {
        "of other scenarios": 1,
        "with other seeds": 2,
        "with other measures": 1,
    }


def test_of_a_run_that_is_there_twice_the_newest_is_packed(records: list[Record], tmp_path: Path) -> None:
    older = rewritten(records[0], tmp_path, created="2020-01-01T00:00:00+00:00", same_id=True)
    found = select([older, *records], suite(QUICK), registry())
    assert list(found.records) == records
    assert [len(runs) for runs in found.left_out.values()] == [1]


def test_only_the_unlearners_and_scenarios_that_are_asked_for_are_packed(records: list[Record]) -> None:
    found = select(records, suite(QUICK), registry(), unlearners=["finetune"], scenarios=[SCENARIO])
    assert list(found.records) == of(records, "finetune")
    with pytest.raises(UsageError, match="did you mean finetune"):
        select(records, suite(QUICK), registry(), unlearners=["finetun"])
    with pytest.raises(UsageError, match="unknown-scenario"):
        select(records, suite(QUICK), registry(), scenarios=["digits"])


def test_the_suite_can_be_seen_from_the_runs(records: list[Record], tmp_path: Path) -> None:
    assert only_suite(records, registry()).name == QUICK
    stranger = rewritten(records[0], tmp_path, spec=records[0].document["spec"] | {"scenario": None})
    with pytest.raises(UsageError, match=r"unknown-suite.*belong to none; give one of quick/v1"):
        only_suite([*records, stranger], registry())


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_missing_seed_is_refused_and_nothing_is_written(records: list[Record], tmp_path: Path) -> None:
    lacking = [record for record in of(records, "finetune") if record.document["spec"]["seeds"]["train"] != 3]
    refused(DataError, "missing-seed.*finetune.*lacks seed 3", lacking, tmp_path)


def test_a_failed_run_is_packed_without_predictions(records: list[Record], tmp_path: Path) -> None:
    first, *others = of(records, "finetune")
    failed = rewritten(
        first, tmp_path / "failed", same_id=True, status="failed", models={}, measures=[], readings=[], controls=[],
        predictions=None, certificate=None, costs={}, stages=[], files=[],
        error={"code": "plugin-raised", "where": "unlearner finetune", "message": "no", "hint": ""},
    )  # fmt: skip
    submission = read_submission(packed([failed, *others], tmp_path / "out"))
    found = {run.seed: run.predictions for run in submission.runs}
    assert found.pop(0) is None
    assert None not in found.values()
    assert {run.record.status for run in submission.runs} == {"failed", "complete"}


def test_a_diverged_run_is_packed_with_what_it_put_out(records: list[Record], tmp_path: Path) -> None:
    first, *others = of(records, "finetune")
    with np.load(first.folder / "predictions.npz") as stored:
        arrays = {name: stored[name] * np.nan if name.endswith("/unlearned") else stored[name] for name in stored}
    models = copy.deepcopy(first.document["models"])
    models["unlearned"][-1]["finite"] = False
    diverged = rewritten(
        first, tmp_path / "diverged", arrays=arrays, same_id=True, status="diverged", models=models,
        error={"code": "diverged", "where": "run", "message": "weights are not finite", "hint": ""},
    )  # fmt: skip
    submission = read_submission(packed([diverged, *others], tmp_path / "out"))
    (run,) = [run for run in submission.runs if run.record.status == "diverged"]
    assert np.isnan(outputs(submission, run, "unlearned")["test"]).all()
    np.testing.assert_array_equal(outputs(submission, run, "gold")["test"], arrays["test/gold"])


def test_predictions_that_are_not_those_of_the_record_are_refused(records: list[Record], tmp_path: Path) -> None:
    first, second, *others = of(records, "finetune")
    spoilt = rewritten(first, tmp_path / "spoilt", same_id=True)
    shutil.copy(second.folder / "predictions.npz", spoilt.folder / "predictions.npz")
    refused(DataError, "wrong-digest.*predictions", [spoilt, second, *others], tmp_path / "place")


def test_weights_that_are_not_in_the_store_are_refused(records: list[Record], tmp_path: Path) -> None:
    refused(DataError, "missing-file.*finetune.s0.*original model.*--store", of(records, "finetune"), tmp_path,
            weights=Store(tmp_path / "nowhere"))  # fmt: skip


def test_weights_of_another_run_are_refused(records: list[Record], suite_folder: Path, tmp_path: Path) -> None:
    store = Store(suite_folder / "store")
    first, *others = of(records, "finetune")
    models = json.loads(json.dumps(first.document["models"]))
    models["gold"][-1]["key"] = first.document["models"]["original"][-1]["key"]
    mixed = rewritten(first, tmp_path / "mixed", same_id=True, models=models)
    refused(DataError, "wrong-digest.*gold model.*other weights", [mixed, *others], tmp_path / "place", weights=store)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"licence": "free for all"}, "licence"),
        ({"paper": "javascript:alert(1)"}, "paper"),
        ({"authors": ("A\nB",)}, "authors"),
        ({"notes": "x" * 3000}, "notes"),
        ({"settings": 0}, "settings"),
        ({"settings": 101}, "over-budget"),
    ],
)
def test_what_submitters_may_not_say_is_refused(
    records: list[Record], tmp_path: Path, said: dict[str, Any], words: str
) -> None:
    refused(UsageError, words, of(records, "finetune"), tmp_path, statement=replace(STATED, **said))


def test_a_folder_that_is_in_use_is_left_alone(records: list[Record], tmp_path: Path) -> None:
    used, file = tmp_path / "used", tmp_path / "file"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    file.write_text("mine too")
    before = tree(tmp_path)
    for out in (used, file):
        with pytest.raises(DataError, match=r"cannot-write.*name a folder that does not exist"):
            packed(of(records, "finetune"), out)
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled(records: list[Record], tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    packed(of(records, "finetune"), out)
    assert len(read_submission(out).runs) == 5
    assert list(tmp_path.iterdir()) == [out]


# -- re-attacks -------------------------------------------------------------------------------------------------------


def test_a_re_attack_packs_runs_with_further_measures(
    records: list[Record], small_submission: Path, suite_folder: Path, tmp_path: Path
) -> None:
    quick = suite(QUICK)
    part = quick.parts[0]
    stronger = replace(part, measures=(*part.measures, "yeom"))
    outcome = execute(
        quick.specs(stronger, ["finetune"], registry()), out=tmp_path / "runs", store=suite_folder / "store"
    )
    both = [*records, *outcome.records]
    assert list(select(both, quick, registry()).records) == records
    found = select(both, quick, registry(), attack=True).records
    assert [record.document["id"] for record in found] == sorted(r.document["id"] for r in outcome.records)
    attacked = read_submission(small_submission)
    submission = read_submission(packed(found, tmp_path / "attack", re_attacks="small", attacked=attacked))
    assert (submission.kind, submission.document["re_attacks"], len(submission.runs)) == ("re-attack", "small", 5)


# -- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private and public keys, made as the how-to says: two pairs on a curve, one of another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    folder = tmp_path_factory.mktemp("keys")
    made = {
        "mine": ec.generate_private_key(ec.SECP256R1()),
        "other": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for name, key in made.items():
        (folder / f"{name}.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        (folder / f"{name}.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    return folder


@pytest.fixture
def signed(small_submission: Path, keys: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(small_submission, tmp_path / "signed")
    sign(copy, keys / "mine.pem")
    return copy


def test_a_signature_holds_for_what_was_signed_and_says_nothing_of_the_machine(signed: Path, keys: Path) -> None:
    verify_signature(signed, keys / "mine.pub")
    verify_signature(shutil.move(signed, signed.with_name("renamed")), keys / "mine.pub")
    assert str(signed.parent).encode() not in (signed.with_name("renamed") / "signature.json").read_bytes()


def test_a_signature_does_not_hold_for_a_changed_byte(signed: Path, keys: Path) -> None:
    file = next((signed / "records").iterdir())
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(DataError, match=rf"wrong-signature.*records/{file.name} changed"):
        verify_signature(signed, keys / "mine.pub")


def test_a_changed_file_is_named_whatever_its_digest_looks_like() -> None:
    """The library prints digests as Python does, which escapes all quotes where a digest has one of each kind."""
    message = ["Hash mismatch for 'records/a.json': Expected 'b\"-H@'', Actual 'b''"]
    assert _why(ValueError(message)) == "since it was signed, records/a.json changed"
    assert "\\'" in str(ValueError(message))


def test_a_signature_does_not_hold_for_added_and_removed_files(signed: Path, keys: Path) -> None:
    (signed / ".gitignore").write_text("*")
    with pytest.raises(DataError, match=r"wrong-signature.*\.gitignore came in"):
        verify_signature(signed, keys / "mine.pub")
    (signed / ".gitignore").unlink()
    (signed / "statement.json").unlink()
    with pytest.raises(DataError, match=r"wrong-signature.*statement\.json went away"):
        verify_signature(signed, keys / "mine.pub")


def test_a_signature_of_somebody_else_does_not_hold(signed: Path, keys: Path) -> None:
    with pytest.raises(DataError, match=r"wrong-signature.*[Kk]ey"):
        verify_signature(signed, keys / "other.pub")


def test_a_signature_that_leaves_files_out_is_refused(signed: Path, keys: Path) -> None:
    """The library leaves out what a signature tells it to; whoever signs could so leave room for other records."""
    from model_signing import hashing, signing

    partly = hashing.Config().use_file_serialization().set_ignored_paths(paths=["signature.json", "records"])
    config = signing.Config().set_hashing_config(partly).use_elliptic_key_signer(private_key=keys / "mine.pem")
    config.sign(signed, signed / "signature.json")
    with pytest.raises(DataError, match=r"wrong-signature.*leaves out .*records"):
        verify_signature(signed, keys / "mine.pub")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"dsseEnvelope": {"payload": "%%"}}', b"[" * 100_000])
def test_what_is_no_signature_is_refused(signed: Path, keys: Path, content: bytes) -> None:
    (signed / "signature.json").write_bytes(content)
    with pytest.raises(DataError, match=r"wrong-signature.*is not a signature"):
        verify_signature(signed, keys / "mine.pub")


def test_a_missing_signature_is_named(small_submission: Path, keys: Path) -> None:
    with pytest.raises(DataError, match=r"missing-file.*signature.json"):
        verify_signature(small_submission, keys / "mine.pub")


@pytest.mark.parametrize(("key", "words"), [("rsa.pem", "another kind"), ("mine.pub", "private key")])
def test_a_key_that_cannot_sign_is_refused_before_anything_is_packed(
    records: list[Record], keys: Path, tmp_path: Path, key: str, words: str
) -> None:
    refused(UsageError, f"bad-key.*{key}.*{words}", of(records, "finetune")[:1], tmp_path, key=keys / key)


def test_without_model_signing_the_line_says_what_to_install(
    small_submission: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    with pytest.raises(UsageError, match=r'missing-extra.*pip install "unlearnbench\[signing\]"'):
        sign(small_submission, keys / "mine.pem")


def test_without_the_network_sigstore_fails_in_one_line(small_submission: Path, tmp_path: Path) -> None:
    """In a process of its own, whose proxy leads nowhere and which nobody can answer."""
    copy = shutil.copytree(small_submission, tmp_path / "copy")
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SIGN_KEYLESS, str(copy)], env=environment(**nowhere), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert_error(done.stdout.strip(), "signing-failed", "sigstore", "--sign KEY.pem")
    assert not (copy / "signature.json").exists()


SIGN_KEYLESS = """
import pathlib, sys
from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.leaderboard.signing import sign
try:
    sign(pathlib.Path(sys.argv[1]), "sigstore")
except UnlearnBenchError as problem:
    print("error:", problem)
"""


# -- the command ------------------------------------------------------------------------------------------------------


def bundle(*arguments: str | Path) -> Done:
    stated = ("--name", "small", "--author", "A. Author", "--licence", "CC-BY-4.0", "--tuning", "none")
    return call("leaderboard", "bundle", *arguments, *stated)


def test_the_command_packs_signs_and_says_what_comes_next(suite_folder: Path, keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    done = bundle(suite_folder, "-o", out, "--unlearner", "finetune", "--weights", "--sign", keys / "mine.pem")
    assert done.rc == 0, done.stderr
    assert done.stderr.startswith("left out: 5 of other unlearners (such as ")
    assert "unlearners  finetune" in done.stdout
    assert "5 runs of quick/v1 in 38 files" in done.stdout
    assert f"unlearnbench leaderboard verify {out}" in done.stdout
    submission = read_submission(out)
    assert all(run.weights for run in submission.runs)
    verify_signature(out, keys / "mine.pub")


def test_the_command_refuses_a_run_that_cannot_be_read(suite_folder: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(suite_folder, tmp_path / "runs", ignore=shutil.ignore_patterns("store"))
    broken = find_records(runs)[0]
    broken.write_text("{")
    assert_one_error(bundle(runs, "-o", tmp_path / "out"), 2, "bad-json", str(broken))
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_is_missing(suite_folder: Path, tmp_path: Path) -> None:
    done = call("leaderboard", "bundle", suite_folder, "--name", "small", "-o", tmp_path / "out", "--author", "A")
    assert done.rc == 2
    assert "--licence" in done.stderr
    assert_one_error(bundle(tmp_path, "-o", tmp_path / "out"), 2, "no-records", str(tmp_path))
    assert_one_error(
        bundle(suite_folder, "-o", tmp_path / "out", "--suite", "quick/v2"), 2, "unknown-suite", "quick/v1"
    )


# -- the helpers of other tests ---------------------------------------------------------------------------------------


def test_a_forged_reading_gets_past_every_digest_once_these_are_mended(small_submission: Path, tmp_path: Path) -> None:
    forge = edited_reading("finetune", 0, "accuracy.forget", 0.25)
    with pytest.raises(DataError, match="wrong-digest"):
        read_submission(tampered(small_submission, forge, tmp_path / "plain", mend=False))
    forged = read_submission(tampered(small_submission, forge, tmp_path / "mended"))
    (run,) = [run for run in forged.runs if (run.unlearner, run.seed) == ("finetune", 0)]
    assert run.record.value("accuracy.forget") == 0.25


def test_a_mended_copy_follows_names_that_depend_on_content(small_submission: Path, tmp_path: Path) -> None:
    def flip(folder: Path) -> None:
        file = folder / run_of(folder, "finetune", 1)["predictions"]["unlearned"]
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)

    before = run_of(small_submission, "finetune", 1)["predictions"]
    copy = tampered(small_submission, flip, tmp_path / "copy")
    read_submission(copy)
    after = run_of(copy, "finetune", 1)["predictions"]
    assert (after["original"], after["gold"]) == (before["original"], before["gold"])
    assert after["unlearned"] != before["unlearned"]
    unchanged = tampered(
        small_submission, edited("submission.json", "statement", "notes", value="a test"), tmp_path / "n"
    )
    assert tree(unchanged) == tree(small_submission)


def refused(kind: type[UnlearnBenchError], words: str, records: list[Record], place: Path, **options: Any) -> None:
    """Packing fails with a line, and leaves nothing behind."""
    place.mkdir(exist_ok=True)
    before = sorted(place.iterdir())
    with pytest.raises(kind, match=words):
        packed(records, place / "out", **options)
    assert sorted(place.iterdir()) == before


def rewritten(
    record: Record, out: Path, *, arrays: dict[str, Any] | None = None, same_id: bool = False, **changes: Any
) -> Record:
    """A record with some parts changed and its digest right, in a folder of its own beside its predictions."""
    document = {**record.document, **changes}
    if not same_id:
        document["id"] = f"{record.document['id']}-{out.name}"
    if arrays is not None:
        document["predictions"] = arrays_digest(arrays)
    document["digest"] = content_digest(document)
    packed_arrays = pack_arrays(arrays) if arrays else (record.folder / "predictions.npz").read_bytes()
    return write_record(out / str(document["id"]), document, {"predictions.npz": packed_arrays})
