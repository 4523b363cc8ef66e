"""A real submission passes, and no copy of it with one field changed does; the line names the field.

All digests that depend on the field are made right again, up to the Statement, as somebody who forges would do it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from security.honest import UNLEARNER, assert_clean, assert_refused, copied, honest, verified
from submissions import edited, edited_reading, edited_record, read, record_file, run_of, tampered, write

from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION

pytestmark = pytest.mark.usefixtures("measured_once")

Change = Callable[[Path], object]


def record(*path: str | int, value: Any) -> Change:
    return edited_record(UNLEARNER, 0, *path, value=value)


def submission(*path: str | int, value: Any) -> Change:
    return edited(SUBMISSION, *path, value=value)


def in_record(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change that a value alone cannot say."""

    def changed(folder: Path) -> None:
        path = folder / record_file(folder, UNLEARNER, 0)
        document = read(path)
        change(document)
        write(path, document)

    return changed


def in_submission(change: Callable[[dict[str, Any]], object], file: str = SUBMISSION) -> Change:
    def changed(folder: Path) -> None:
        document = read(folder / file)
        change(document)
        write(folder / file, document)

    return changed


def reading(document: Mapping[str, Any], key: str, subject: str = "unlearned") -> dict[str, Any]:
    return next(r for r in document["readings"] if (r["key"], r["subject"]) == (key, subject))


def with_reading(key: str, subject: str = "unlearned", **fields: Any) -> Change:
    """Fields of a reading alone: what follows from them stays as it was."""
    return in_record(lambda document: reading(document, key, subject).update(fields))


def dropped_run(folder: Path) -> None:
    run = run_of(folder, UNLEARNER, 4)
    in_submission(lambda document: document["runs"].remove(run))(folder)
    (folder / run["record"]).unlink()
    others = {name for other in read(folder / SUBMISSION)["runs"] for name in other["predictions"].values()}
    for name in set(run["predictions"].values()) - others:
        (folder / name).unlink()


def swapped(one: str, other: str) -> Change:
    """The outputs of two models of a run change places."""

    def change(document: dict[str, Any]) -> None:
        files = document["runs"][0]["predictions"]
        files[one], files[other] = files[other], files[one]

    return in_submission(change)


def failed(document: dict[str, Any]) -> None:
    document["status"] = "failed"
    document["error"] = {"code": "training-diverged", "where": "", "message": "stopped", "hint": ""}


def escaped_failure(folder: Path) -> None:
    """A run that calls itself failed, to have its readings and outputs compared with nothing."""
    in_record(failed)(folder)
    files = run_of(folder, UNLEARNER, 0)["predictions"]
    in_submission(lambda document: document["runs"][0].update(predictions=None))(folder)
    others = {n for run in read(folder / SUBMISSION)["runs"] for n in (run["predictions"] or {}).values()}
    for name in set(files.values()) - others:
        (folder / name).unlink()


def component(kind: str, **fields: Any) -> Change:
    return in_record(lambda document: next(c for c in document["components"] if c["kind"] == kind).update(fields))


MENDED: dict[str, tuple[Change, tuple[str, ...]]] = {
    # the submission
    "schema of tomorrow": (
        submission("$schema", value="https://unlearnbench.org/schemas/submission/2.json"),
        ("[unknown-schema]", "$.$schema"),
    ),
    "name": (submission("name", value="../up"), ("$.name",)),
    "name with a new line": (submission("name", value="honest\n"), ("$.name",)),
    "kind": (submission("kind", value="re-attack"), ("re_attacks",)),
    "what it attacks": (submission("re_attacks", value="salun-authors"), ("re_attacks",)),
    "digest of the suite": (submission("suite", "sha256", value="0" * 64), ("suite.sha256",)),
    "another suite": (submission("suite", "name", value="standard/v1"), ("suite.sha256",)),
    "a suite that does not exist": (submission("suite", "name", value="quick/v9"), ("quick/v9",)),
    "date": (submission("created", value="yesterday"), ("$.created",)),
    "date in other digits": (submission("created", value="٢٠٢٦-11-21T12:00:00Z"), ("$.created",)),
    "date that is none": (submission("created", value="2026-99-99T99:99:99Z"), ("created",)),
    "settings": (submission("statement", "tuning", "settings", value=101), ("statement.tuning.settings",)),
    "access": (submission("statement", "tuning", "access", value="secret"), ("$.statement.tuning.access",)),
    "paper": (submission("statement", "paper", value="javascript:alert(1)"), ("$.statement.paper",)),
    "licence": (submission("statement", "licence", value="<b>"), ("$.statement.licence",)),
    "authors": (submission("statement", "authors", value=[]), ("$.statement.authors",)),
    "a field too many": (submission("verified", value="rerun"), ("verified",)),
    "a plugin's version": (submission("plugins", 0, "version", value="9.9"), (f"{SUBMISSION}: plugins",)),
    "a plugin fewer": (in_submission(lambda d: d["plugins"].pop()), (f"{SUBMISSION}: plugins",)),
    "a plugin more": (
        in_submission(lambda d: d["plugins"].append({"distribution": "evil", "version": "1"})),
        ("plugins", "evil"),
    ),
    "a run fewer": (dropped_run, ("[missing-seed]", "runs", "seed 4")),
    "a run twice": (in_submission(lambda d: d["runs"].append(d["runs"][0])), ("[duplicate-run]", "$.runs.5.id")),
    "a run's name": (submission("runs", 0, "id", value="other"), ("$.runs.0.id",)),
    "a run without predictions": (submission("runs", 0, "predictions", value=None), ("$.runs.0.predictions",)),
    "predictions that are not there": (
        submission("runs", 0, "predictions", "gold", value=f"predictions/{'0' * 64}.safetensors"),
        ("$.runs.0.predictions.gold",),
    ),
    "outputs of original and gold swapped": (swapped("original", "gold"), (".s0.", "readings", "value")),
    "outputs of gold for the unlearned": (swapped("gold", "unlearned"), (".s0.", "readings", "value")),
    # readings
    "a reading": (
        edited_reading(UNLEARNER, 0, "accuracy.forget", 0.25),
        (".s0.", "accuracy/unlearned/accuracy.forget", "value"),
    ),
    "a reading by two thousandths": (
        edited_reading(UNLEARNER, 0, "accuracy.test", 0.97),
        ("accuracy/unlearned/accuracy.test", "value"),
    ),
    "a reading of gold": (
        edited_reading(UNLEARNER, 0, "accuracy.forget", 0.9, "gold"),
        ("accuracy/gold/accuracy.forget", "value"),
    ),
    "a reading of the original": (
        edited_reading(UNLEARNER, 0, "accuracy.test", 0.5, "original"),
        ("accuracy/original/accuracy.test", "value"),
    ),
    "a reading of an attack": (
        edited_reading(UNLEARNER, 0, "loss-attack-auc", 0.5),
        ("loss-attack/unlearned/loss-attack-auc", "value"),
    ),
    "a value that is none": (with_reading("accuracy.forget", value=None), ("accuracy.forget",)),
    "a gap": (with_reading("accuracy.test", gap=0.0), ("accuracy/unlearned/accuracy.test", "gap")),
    "an interval": (with_reading("loss-attack-auc", interval=[0.4, 0.6]), ("loss-attack-auc", "interval")),
    "an interval where there is none": (
        with_reading("accuracy.forget", interval=[0.0, 1.0]),
        ("accuracy.forget", "interval"),
    ),
    "a verdict": (with_reading("loss-attack-auc", verdict="below gold"), ("loss-attack-auc", "verdict")),
    "a number of rows": (with_reading("accuracy.test", n=10_000), ("accuracy.test", ".n")),
    "a reading's status": (with_reading("accuracy.test", status="undefined"), ("accuracy.test", "status")),
    "a reading's direction": (with_reading("accuracy.test", better="lower"), ("accuracy.test", "better")),
    "a reading's unit": (with_reading("accuracy.test", unit="%"), ("accuracy.test", "unit")),
    "a reading's split": (with_reading("accuracy.test", split="retain"), ("accuracy.test", "split")),
    "a reading's name": (with_reading("accuracy.test", name="<b>accuracy</b>"), ("accuracy", "name")),
    "a reading fewer": (
        in_record(lambda d: d["readings"].remove(reading(d, "accuracy.test"))),
        ("accuracy.test", "key"),
    ),
    "a reading twice": (
        in_record(lambda d: d["readings"].append(reading(d, "accuracy.test"))),
        ("accuracy.test", "key"),
    ),
    "a reading more": (
        in_record(lambda d: d["readings"].append({**reading(d, "accuracy.test"), "key": "best"})),
        ("best",),
    ),
    "a gap of a cost": (with_reading("cpu-time", gap=-1.0), ("cpu-time", "gap")),
    "a control": (in_record(lambda d: d["controls"][0].update(gold=0.9)), ("controls[0]",)),
    "whether a control separates": (in_record(lambda d: d["controls"][0].update(separates=False)), ("controls[0]",)),
    "a control fewer": (in_record(lambda d: d["controls"].pop()), ("controls",)),
    # what was run
    "schema of tomorrow's record": (
        record("$schema", value="https://unlearnbench.org/schemas/run-record/7.json"),
        ("[unknown-schema]", "$.$schema", "version 7"),
    ),
    "rate of learning": (record("spec", "recipe", "lr", value=0.5), ("spec.recipe.lr",)),
    "epochs": (record("spec", "recipe", "epochs", value=500), ("spec.recipe.epochs",)),
    "request": (record("spec", "requests", 0, "classes", value=["4"]), ("spec.requests[0].classes",)),
    "scenario": (record("spec", "scenario", value="digits-noisy-cnn-random10/v1"), ("spec",)),
    "a scenario of no suite": (record("spec", "scenario", value="wine-logistic-random10/v1"), ("spec.scenario",)),
    "seed": (record("spec", "seeds", "train", value=1), ("spec.seeds",)),
    "a seed of no suite": (
        record("spec", "seeds", value={"train": 77, "unlearn": 77, "measure": 77}),
        ("spec.seeds.train", "77"),
    ),
    "parameters of one run": (record("spec", "unlearner", "params", "lr", value=0.123), ("spec.unlearner.params.lr",)),
    "another unlearner": (record("spec", "unlearner", "name", value="salun"), (".s0.",)),
    "measures": (in_record(lambda d: d["spec"]["measures"].pop()), ("spec.measures",)),
    "what a measure asks": (
        in_record(lambda d: d["spec"]["measures"][-1]["params"].update(bootstrap=1)),
        ("spec.measures",),
    ),
    "threads": (record("spec", "threads", value=3), ("spec.threads",)),
    "device": (record("spec", "device", value="cuda"), ("spec.device",)),
    "rows of the training data": (record("data", "train", "digest", value="0" * 64), ("data.train.digest",)),
    "number of test rows": (record("data", "test", "rows", value=36), ("data.test.rows",)),
    "forget set": (record("requests", 0, "digest", value="0" * 64), ("requests[0].digest",)),
    "number of forgotten rows": (record("requests", 0, "forget", value=1), ("requests[0].forget",)),
    "trainer": (record("trainer", value="other"), ("trainer",)),
    "a component's version": (component("unlearner", version="9"), ("[other-version]", "components", "version")),
    "a component's distribution": (
        component("unlearner", distribution="unlearnbench-evil"),
        ("[missing-plugin]", "components", "unlearnbench-evil"),
    ),
    "a component that is not installed": (component("unlearner", name="evil"), ("[missing-plugin]", "evil")),
    "a measure called timed": (in_record(lambda d: d["measures"][0].update(timed=True)), ("measures[0]",)),
    "a measure called broken": (
        in_record(lambda d: d["measures"][0].update(status="failed", message="x")),
        ("$.readings.0", "$.measures"),
    ),
    "a status": (in_record(failed), ("status",)),
    "a failure with readings": (escaped_failure, ("[wrong-status]", "$.status")),
    "a failure with readings and no digest": (
        lambda f: (escaped_failure(f), record("predictions", value=None)(f)),
        ("[wrong-status]", "$."),
    ),
    "what is not finite": (
        in_record(lambda d: d["models"]["unlearned"][0].update(finite=False)),
        ("[wrong-status]", "$.status"),
    ),
    "no models": (in_record(lambda d: d["models"].pop("gold")), ("models",)),
}

FORGED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "digest of a record": (record("digest", value="0" * 64), ("records/", "$.files")),
    "digest of a file": (
        lambda f: submission("files", record_file(f, UNLEARNER, 0), "sha256", value="0" * 64)(f),
        ("records/", "sha256"),
    ),
    "size of a file": (
        lambda f: submission("files", record_file(f, UNLEARNER, 0), "bytes", value=7)(f),
        ("records/", "7"),
    ),
    "a file that is gone": (lambda f: (f / record_file(f, UNLEARNER, 0)).unlink(), ("[missing-file]", "records/")),
    "a file more": (
        lambda f: (f / "records" / "more.json").write_text("{}"),
        ("[unexpected-file]", "records/more.json"),
    ),
    "a verification within": (
        lambda f: (f / "verification.json").write_text("{}"),
        ("[unexpected-file]", "verification.json"),
    ),
    "a record's name": (
        lambda f: (f / record_file(f, UNLEARNER, 0)).rename(f / "records" / "more.json"),
        ("records/more.json",),
    ),
    "a subject fewer": (in_submission(lambda d: d["subject"].pop(), STATEMENT), (STATEMENT,)),
    "another digest of a subject": (edited(STATEMENT, "subject", 0, "digest", "sha256", value="0" * 64), (STATEMENT,)),
    "another type": (edited(STATEMENT, "predicateType", value="https://slsa.dev/provenance/v1"), (STATEMENT,)),
    "another number of runs": (edited(STATEMENT, "predicate", "runs", value=50), (STATEMENT,)),
    "no Statement": (lambda f: (f / STATEMENT).unlink(), ("[missing-file]", STATEMENT)),
    "no submission": (lambda f: (f / SUBMISSION).unlink(), ("[missing-file]", SUBMISSION)),
    "a note": (submission("statement", "notes", value="verified by the maintainers"), (STATEMENT,)),
    "one byte of the predictions": (
        lambda f: _flipped(f / run_of(f, UNLEARNER, 0)["predictions"]["gold"]),
        ("predictions/", "sha256"),
    ),
}
"""Copies whose digests were not mended."""


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_an_honest_copy_passes(tmp_path: Path) -> None:
    done = verified(tampered(honest(), lambda folder: None, tmp_path / "copy"))
    assert done.rc == 0, done.stderr
    assert_clean(done)
    assert not done.stderr
    assert "recomputed-metrics holds" in done.stdout


def test_there_are_enough_of_them() -> None:
    assert len(MENDED) + len(FORGED) > 85


@pytest.mark.parametrize("field", MENDED)
def test_a_changed_field_is_found_although_all_digests_are_right(field: str, tmp_path: Path) -> None:
    change, words = MENDED[field]
    assert_refused(verified(tampered(honest(), change, tmp_path / "copy")), *words)


@pytest.mark.parametrize("field", FORGED)
def test_a_changed_field_is_found_by_its_digest(field: str, tmp_path: Path) -> None:
    change, words = FORGED[field]
    assert_refused(verified(tampered(honest(), change, tmp_path / "copy", mend=False)), *words)


def test_a_cost_cannot_be_found_again_and_is_counted_so(tmp_path: Path) -> None:
    folder = tampered(honest(), with_reading("cpu-time", value=1e-9, gap=None), tmp_path / "copy")
    done = verified(folder)
    before = verified(honest())
    if done.rc == 0:
        assert "0 not compared" not in done.stdout
        assert done.stdout == before.stdout
    else:
        assert_refused(done, "cpu-time")


def test_a_signature_of_another_key_or_of_other_files_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from unlearnbench.leaderboard.signing import sign

    def key(name: str) -> Path:
        made = ec.generate_private_key(ec.SECP256R1())
        private, public = tmp_path / name, tmp_path / f"{name}.pub"
        encoded = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(made.private_bytes(*encoded))
        formats = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        public.write_bytes(made.public_key().public_bytes(*formats))
        return private

    own, other = key("own"), key("other")
    folder = copied(tmp_path / "honest")
    sign(folder, own)
    assert "signature: valid" in verified(folder, "--public-key", own.with_suffix(".pub")).stdout
    assert_refused(verified(folder, "--public-key", other.with_suffix(".pub")), "[wrong-signature]")
    tampered(folder, edited_reading(UNLEARNER, 0, "accuracy.forget", 0.25), tmp_path / "mended" / "honest")
    shutil.copyfile(folder / SIGNATURE, tmp_path / "mended" / "honest" / SIGNATURE)
    done = verified(tmp_path / "mended" / "honest", "--public-key", own.with_suffix(".pub"))
    assert_refused(done, "[wrong-signature]")
    assert_refused(verified(honest(), "--public-key", own.with_suffix(".pub")), SIGNATURE)
