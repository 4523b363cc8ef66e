"""Reading submissions of strangers: folders, zip archives, JSON and tensors that are not what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import numpy as as_arrays
from safetensors import torch as as_weights
from submissions import CREATED, edited, mend_digests, tampered, write
from submissions import read as document_of

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.identity import canonical
from unlearnbench.leaderboard.bundle import outputs_of, plugins, seal
from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.leaderboard.package import MOST_FILES, MOST_JSON_BYTES, open_package
from unlearnbench.leaderboard.read import outputs, read_submission, weights
from unlearnbench.leaderboard.submission import SCHEMA
from unlearnbench.leaderboard.suites import suite
from unlearnbench.leaderboard.tensors import OUTPUTS, WEIGHTS, read_tensors, read_weights, write_tensors
from unlearnbench.record import Record, content_digest
from unlearnbench.registry import registry
from unlearnbench.runner import execute
from unlearnbench.store import Store

CHANGE = Callable[[Path], None]
SHA = "0" * 64


@dataclass(frozen=True)
class Made:
    """A small real submission of two runs with outputs and weights, and the records that it was made of."""

    folder: Path
    records: tuple[Record, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("made")
    quick = suite("quick/v1")
    specs = quick.specs(quick.parts[0], ["identity"], registry())[:2]
    short = [replace(s, recipe=replace(s.recipe, epochs=2), measures=s.measures[:1]) for s in specs]
    records = execute(short, out=root / "runs").records
    folder = root / "small"
    document: dict[str, Any] = {
        "$schema": SCHEMA,
        "name": "small",
        "kind": "results",
        "suite": {"name": quick.name, "sha256": quick.sha256},
        "created": CREATED,
        "statement": {
            "authors": ["A. Author"], "paper": None, "licence": "CC-BY-4.0",
            "tuning": {"access": "none", "settings": 1}, "notes": "",
        },
        "re_attacks": None,
        "plugins": plugins(records),
        "runs": [_put_run(folder, record, Store(root / "runs" / "store")) for record in records],
        "files": {},
    }  # fmt: skip
    _list_files(folder, document)
    return Made(folder, tuple(records))


def _put_run(folder: Path, record: Record, store: Store) -> dict[str, Any]:
    kept: dict[str, dict[str, str]] = {"predictions": {}, "weights": {}}
    for subject, splits in outputs_of(record).items():
        half = {split: array.astype(np.float16) for split, array in splits.items()}
        kept["predictions"][subject] = _put(folder, "predictions", write_tensors(half))
        model = record.document["models"][subject][-1]
        entry = store.get("unlearn" if subject == "unlearned" else "train", model["key"])
        assert entry is not None
        kept["weights"][subject] = _put(folder, "weights", as_weights.save(dict(entry.weights)))
    name = f"records/{record.document['id']}.json"
    (folder / "records").mkdir(exist_ok=True)
    (folder / name).write_bytes(canonical(record.document))
    return {"id": record.document["id"], "record": name, **kept}


def _put(folder: Path, kind: str, content: bytes) -> str:
    name = f"{kind}/{hashlib.sha256(content).hexdigest()}.safetensors"
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return name


def _list_files(folder: Path, document: dict[str, Any]) -> None:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.glob("*/*")}
    document["files"] = {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in found.items()}
    seal(folder, document)


def zipped(folder: Path, path: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def refusal(path: Path, code: str, *words: str) -> DataError:
    """The error that reading gives: of this code, in one line, with these words."""
    with pytest.raises(DataError) as caught:
        read_submission(path)
    line = str(caught.value)
    assert caught.value.code == code, line
    assert all(word in line for word in words), line
    assert line.isprintable()
    assert len(line) < 1200
    return caught.value


def both(*changes: CHANGE) -> CHANGE:
    def change(path: Path) -> None:
        for each in changes:
            each(path)

    return change


def raw(edit: Callable[[bytes], bytes]) -> CHANGE:
    """A change of a file's bytes."""

    def change(path: Path) -> None:
        path.write_bytes(edit(path.read_bytes()))

    return change


def change_run(field: str, value: Any, position: int = 0) -> CHANGE:
    return edited(SUBMISSION, "runs", position, field, value=value)


# Folders and archives


def test_a_submission_reads_the_same_from_a_folder_and_from_every_kind_of_archive(made: Made, tmp_path: Path) -> None:
    expected = read_submission(made.folder)
    assert [run.record.document for run in expected.runs] == [record.document for record in made.records]
    assert expected.sha256 == hashlib.sha256((made.folder / SUBMISSION).read_bytes()).hexdigest()
    shutil.make_archive(str(tmp_path / "shutil"), "zip", made.folder.parent, made.folder.name)
    archives = [
        zipped(made.folder, tmp_path / "flat.zip"),
        zipped(made.folder, tmp_path / "below.zip", "small/"),
        zipped(made.folder, tmp_path / "stored.zip", "", zipfile.ZIP_STORED),
        tmp_path / "shutil.zip",
    ]
    for path in archives:
        found = read_submission(path)
        assert found.document == expected.document
        assert found.sha256 == expected.sha256
        assert dict(found.package.files) == dict(expected.package.files)
        for name in found.package.files:
            assert found.package.read(name) == (made.folder / name).read_bytes()


def test_outputs_are_those_of_the_run_in_single_precision(made: Made, tmp_path: Path) -> None:
    submission = read_submission(zipped(made.folder, tmp_path / "a.zip"))
    for run, record in zip(submission.runs, made.records, strict=True):
        for subject in SUBJECTS:
            found = outputs(submission, run, subject)
            own = outputs_of(record)[subject]
            assert set(found) == set(own) == {"forget", "retain", "test", "holdout"}
            for split, array in found.items():
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array, own[split].astype(np.float16).astype(np.float32))


def test_weights_are_the_models_of_the_record_and_others_are_refused(made: Made, tmp_path: Path) -> None:
    submission = read_submission(made.folder)
    run = submission.runs[0]
    assert set(weights(submission, run, "unlearned")) == set(weights(submission, run, "original"))
    assert all(tensor.isfinite().all() for tensor in weights(submission, run, "gold").values())

    def swap(folder: Path) -> None:
        document = document_of(folder / SUBMISSION)
        files = document["runs"][0]["weights"]
        files["gold"], files["original"] = files["original"], files["gold"]
        write(folder / SUBMISSION, document)

    swapped = read_submission(tampered(made.folder, swap, tmp_path / "swapped"))
    with pytest.raises(DataError, match=r"\[wrong-digest\].*not the weights of the gold model in the record of run"):
        weights(swapped, swapped.runs[0], "gold")


def test_a_run_without_weights_says_so(made: Made, tmp_path: Path) -> None:
    def leave_out(folder: Path) -> None:
        shutil.rmtree(folder / "weights")
        for position in range(2):
            change_run("weights", None, position)(folder)

    submission = read_submission(tampered(made.folder, leave_out, tmp_path / "none"))
    with pytest.raises(UsageError, match="no-weights"):
        weights(submission, submission.runs[0], "gold")


def test_a_place_where_nothing_lies_is_named(tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere", "missing-file", "nowhere", "check the path")
    refusal(tmp_path, "missing-file", "has no submission.json")


def _link_record(folder: Path) -> None:
    record = next((folder / "records").iterdir())
    record.rename(folder.parent / "elsewhere.json")
    record.symlink_to(folder.parent / "elsewhere.json")


def _link_folder(folder: Path) -> None:
    (folder / "records").rename(folder.parent / "elsewhere")
    (folder / "records").symlink_to(folder.parent / "elsewhere")


def _pipe(folder: Path) -> None:
    (folder / SIGNATURE).unlink(missing_ok=True)
    os.mkfifo(folder / SIGNATURE)


FOLDERS: list[tuple[str, CHANGE, str, str]] = [
    ("a link to a file", _link_record, "not-a-plain-file", "records/"),
    ("a link to a folder", _link_folder, "not-a-plain-file", "records"),
    ("a pipe", _pipe, "not-a-plain-file", SIGNATURE),
    ("a folder in place of a file", lambda f: (f / SIGNATURE).mkdir(), "not-a-plain-file", SIGNATURE),
    ("a further file", lambda f: (f / "setup.py").touch(), "unexpected-file", "setup.py"),
    ("a hidden file", lambda f: (f / ".env").touch(), "unexpected-file", ".env"),
    ("a further folder", lambda f: (f / "more").mkdir(), "unexpected-file", "more"),
    ("a folder in a folder", lambda f: (f / "records" / "x").mkdir(), "unexpected-file", "records/x"),
    ("a pickle", lambda f: (f / "weights" / "m.pkl").touch(), "unexpected-file", "m.pkl"),
    ("escapes in a name", lambda f: (f / "records" / "\x1b[2Jx.json").touch(), "unsafe-name", "[2Jx.json"),
    ("a name that is no text", lambda f: Path(os.fsdecode(bytes(f / "r") + b"\xff")).touch(), "unsafe-name", "/r"),
    ("a backslash", lambda f: (f / "..\\x.json").touch(), "unsafe-name", "..\\x.json"),
    ("a very long name", lambda f: (f / "records" / ("x" * 240 + ".json")).touch(), "unexpected-file", "xxx..."),
    ("names that differ by case", lambda f: _case(f), "duplicate-file", "only by case"),
    ("a file that is not listed", lambda f: (f / "records" / "a.json").touch(), "unexpected-file", "records/a.json"),
]  # fmt: skip


def _case(folder: Path) -> None:
    record = next((folder / "records").iterdir())
    shutil.copy(record, record.with_name(record.name.replace("digits", "DIGITS")))


@pytest.mark.parametrize(("change", "code", "word"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_a_folder_has_only_plain_files_with_the_names_of_a_submission(
    made: Made, tmp_path: Path, change: CHANGE, code: str, word: str
) -> None:
    refusal(tampered(made.folder, change, tmp_path / "copy", mend=False), code, word)


def test_too_many_files_are_counted_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    for number in range(MOST_FILES + 1):
        os.mknod(tmp_path / "records" / f"{number}.json")
    refusal(tmp_path, "too-large", "more than 20000 files")


def test_sizes_are_bounded_before_anything_is_read(made: Made, tmp_path: Path) -> None:
    def grow(name: str, size: int) -> CHANGE:
        return lambda folder: os.truncate(folder / name, size)

    record = f"records/{made.records[0].document['id']}.json"
    for number, (name, size) in enumerate([(SUBMISSION, MOST_JSON_BYTES), (record, MOST_JSON_BYTES)]):
        path = tampered(made.folder, grow(name, size + 1), tmp_path / str(number), mend=False)
        refusal(path, "too-large", name, "8 MiB are allowed")

    def sparse(kind: str, files: int, size: int) -> CHANGE:
        def change(folder: Path) -> None:
            for number in range(files):
                name = f"{number:064x}.safetensors" if kind == "weights" else f"{number}.json"
                (folder / kind / name).touch()
                os.truncate(folder / kind / name, size)

        return change

    for kind, files, size, words in [
        ("weights", 1, 512 * 2**20 + 1, "512 MiB are allowed"),
        ("weights", 5, 500 * 2**20, "2048 MiB are allowed"),
        ("records", 17, MOST_JSON_BYTES, "128 MiB are allowed"),
    ]:
        path = tampered(made.folder, sparse(kind, files, size), tmp_path / f"{kind}{files}", mend=False)
        refusal(path, "too-large", words)


def test_a_file_that_changes_after_it_was_listed_is_not_read(made: Made, tmp_path: Path) -> None:
    folder = tampered(made.folder, lambda f: None, tmp_path / "copy", mend=False)
    submission = read_submission(folder)
    run = submission.runs[0]
    assert run.predictions is not None
    path = folder / run.predictions["gold"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"\[wrong-digest\].*predictions/"):
        outputs(submission, run, "gold")
    path.write_bytes(content + b"x")
    with pytest.raises(DataError, match="changed while it was read"):
        outputs(submission, run, "gold")
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="unreadable-file"):
        outputs(submission, run, "gold")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="changed while it was read"):
        outputs(submission, run, "gold")
    path.unlink()
    path.write_bytes(content)
    path.parent.rename(tmp_path / "moved")
    path.parent.symlink_to(tmp_path / "moved")
    with pytest.raises(DataError, match="unreadable-file"):
        outputs(submission, run, "gold")


def add(name: str, content: bytes = b"{}", outer: int = 0, method: int = zipfile.ZIP_DEFLATED) -> CHANGE:
    """A change that adds a member under any name; ``outer`` are its attributes."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = outer, method
            archive.writestr(info, content)

    return change


def add_named(name: bytes) -> CHANGE:
    """A member under bytes that zipfile does not write."""

    def change(path: Path) -> None:
        add("Q" * len(name))(path)
        path.write_bytes(path.read_bytes().replace(b"Q" * len(name), name))

    return change


def patch_entry(offset: int, code: str, value: int, name: str = STATEMENT, *, header: int | None = None) -> CHANGE:
    """A change of one field of a member's entry in the directory, and of its header where ``header`` says where."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        place = struct.unpack_from("<L", content, content.rindex(b"PK\5\6") + 16)[0]
        while not content[place + 46 :][: struct.unpack_from("<H", content, place + 28)[0]].endswith(name.encode()):
            place += 46 + sum(struct.unpack_from("<3H", content, place + 28))
        struct.pack_into(code, content, place + offset, value)
        if header is not None:
            struct.pack_into(code, content, struct.unpack_from("<L", content, place + 42)[0] + header, value)
        path.write_bytes(content)

    return change


def patch_end(offset: int, code: str, value: int) -> CHANGE:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        struct.pack_into(code, content, content.rindex(b"PK\5\6") + offset, value)
        path.write_bytes(content)

    return change


def _comment(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"


def _locator(path: Path) -> None:
    """What looks like the locator of a Zip64 directory, inside the last entry's extra field."""
    add("records/z.json")(path)
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<LL", content, end + 12)
    place = content.rindex(b"PK\1\2", 0, end)
    struct.pack_into("<H", content, place + 30, 24)
    content[end:end] = struct.pack("<HH", 0x9999, 20) + b"PK\6\7" + bytes(16)
    struct.pack_into("<LL", content, end + 24 + 12, size + 24, start)
    path.write_bytes(content)


def _shared(path: Path) -> None:
    """Two entries with one member's bytes."""
    with zipfile.ZipFile(path) as archive:
        record = next(i for i in archive.infolist() if "records/" in i.filename)
    patch_entry(42, "<L", record.header_offset)(path)


ZIPS: list[tuple[str, CHANGE, str, str]] = [
    ("a name that climbs", add("../evil.json"), "unsafe-name", "../evil.json"),
    ("a name that climbs inside", add("records/../../evil.json"), "unsafe-name", "evil.json"),
    ("an absolute name", add_named(b"/etc/evil"), "unsafe-name", "/etc/evil"),
    ("a drive", add("C:/evil.json"), "unsafe-name", "C:/evil.json"),
    ("a backslash", add_named(b"..\\evil"), "unsafe-name", "..\\evil"),
    ("a NUL", add_named(b"records/a.json\0.exe"), "unsafe-name", "a.json .exe"),
    ("escapes", add_named(b"records/\x1b[2J.json"), "unsafe-name", "[2J.json"),
    ("a further file", add("evil.py"), "unexpected-file", "evil.py"),
    ("a folder of its own", add("__MACOSX/x"), "unexpected-file", "__MACOSX/x"),
    ("a folder entry", add("other/", b""), "unexpected-file", "other/"),
    ("a link", add("records/a.json", b"/etc/passwd", 0o120777 << 16), "not-a-plain-file", "records/a.json"),
    ("a device", add("records/a.json", b"", 0o020666 << 16), "not-a-plain-file", "records/a.json"),
    ("a folder that is a file", add("records/a.json", b"", 0x10), "not-a-plain-file", "records/a.json"),
    ("a folder with content", add_named(b"records/"), "bad-archive", "folder with content"),
    ("a name twice", add_named(b"statement.json"), "duplicate-file", "statement.json: is there twice"),
    ("names that differ by case", add("Statement.json"), "unexpected-file", "Statement.json"),
    ("records that differ by case", both(add("records/a.json"), add("records/A.json")),
     "duplicate-file", "only by case"),
    ("an encrypted member", patch_entry(8, "<H", 1, header=6), "bad-archive", "encrypted"),
    ("another method", add("records/a.json", b"x" * 99, 0, zipfile.ZIP_LZMA), "bad-archive", "method 14"),
    ("a larger size than is there", patch_entry(24, "<L", 10**6), "bad-archive", "declared"),
    ("a smaller size than is there", patch_entry(24, "<L", 10), "bad-archive", "more than the 10 bytes"),
    ("a wrong checksum", patch_entry(16, "<L", 1), "bad-archive", "checksum"),
    ("a member outside", patch_entry(42, "<L", 2**31), "bad-archive", "outside"),
    ("a member cut off", patch_entry(20, "<L", 20), "bad-archive", "cut off"),
    ("two members in one place", _shared, "bad-archive", "share bytes"),
    ("a size of Zip64", patch_entry(24, "<L", 2**32 - 1), "bad-archive", "outside"),
    ("a locator of Zip64", _locator, "bad-archive", "Zip64"),
    ("a comment", _comment, "bad-archive", "comment"),
    ("bytes at the end", raw(lambda b: b + b"x"), "bad-archive", "no zip archive"),
    ("bytes at the start", raw(lambda b: b"#!/bin/sh\n" + b), "bad-archive", "before"),
    ("two parts", patch_end(4, "<H", 1), "bad-archive", "parts"),
    ("fewer entries than are there", both(patch_end(8, "<H", 3), patch_end(10, "<H", 3)),
     "bad-archive", "more entries"),
    ("more entries than are there", both(patch_end(8, "<H", 99), patch_end(10, "<H", 99)),
     "bad-archive", "fewer entries"),
    ("half of it", raw(lambda b: b[:9999]), "bad-archive", "no zip archive"),
    ("nothing", raw(lambda b: b""), "bad-archive", "no zip archive"),
    ("a pickle", raw(lambda b: pickle.dumps({"a": 1})), "bad-archive", "no zip archive"),
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "small/"], ids=["at the top", "in a folder"])
@pytest.mark.parametrize(("change", "code", "word"), [row[1:] for row in ZIPS], ids=[row[0] for row in ZIPS])
def test_an_archive_that_could_be_read_in_two_ways_is_refused(
    made: Made, tmp_path: Path, change: CHANGE, code: str, word: str, prefix: str
) -> None:
    path = zipped(made.folder, tmp_path / "a.zip", prefix)
    change(path)
    if prefix and code in ("duplicate-file", "not-a-plain-file"):
        code = "unexpected-file"  # outside the folder that all else lies in
        word = ""
    elif prefix and word == "folder with content":
        word = "records/"
    refusal(path, code, word)


def test_a_header_that_names_another_file_than_the_directory_is_refused(made: Made, tmp_path: Path) -> None:
    path = zipped(made.folder, tmp_path / "a.zip")
    content = path.read_bytes()
    place = content.index(SUBMISSION.encode())
    path.write_bytes(content[:place] + b"submission.jsom" + content[place + len(SUBMISSION) :])
    refusal(path, "bad-archive", "another file by its header", SUBMISSION)


def test_deflated_bytes_behind_the_end_of_a_member_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    add(SUBMISSION, b"{}" * 50)(path)
    content = path.read_bytes()
    place = 30 + len(SUBMISSION)
    packed = struct.unpack_from("<L", content, 18)[0]
    grown = bytearray(content[: place + packed] + b"hidden" + content[place + packed :])
    end = grown.rindex(b"PK\5\6")
    entry = grown.rindex(b"PK\1\2")
    struct.pack_into("<L", grown, 18, packed + 6)
    struct.pack_into("<L", grown, entry + 20, packed + 6)
    struct.pack_into("<L", grown, end + 16, entry)
    path.write_bytes(grown)
    refusal(path, "bad-archive", "after its end")


def test_a_bomb_is_refused_by_what_it_would_grow_to_and_by_what_it_does_grow_to(made: Made, tmp_path: Path) -> None:
    name = f"predictions/{SHA}.safetensors"
    honest = zipped(made.folder, tmp_path / "honest.zip")
    add(name, bytes(40 * 2**20))(honest)
    refusal(honest, "too-large", name, "200 times")
    liar = honest
    patch_entry(24, "<L", 2**20, name, header=22)(liar)
    package = open_package(liar)
    assert package.files[name] == 2**20
    read: list[int] = []
    with pytest.raises(DataError, match=f"more than the {2**20} bytes"):
        read.extend(map(len, package.chunks(name)))
    assert 0 < sum(read) <= 2**20


def test_outputs_that_are_all_the_same_may_be_packed_well(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    add(f"predictions/{SHA}.safetensors", bytes(2**20))(path)
    add(SUBMISSION)(path)
    assert open_package(path).read(f"predictions/{SHA}.safetensors") == bytes(2**20)


def test_a_changed_archive_is_refused_or_has_the_same_files(made: Made, tmp_path: Path) -> None:
    path = zipped(made.folder, tmp_path / "a.zip", "small/")
    whole = {name: (made.folder / name).read_bytes() for name in open_package(path).files}
    content = path.read_bytes()
    start = struct.unpack_from("<L", content, content.rindex(b"PK\5\6") + 16)[0]
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(start, len(content))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            package = open_package(path)
            found = {name: package.read(name) for name in package.files}
        except DataError:
            refused += 1
            continue
        renamed = [name for name in found if name not in whole]
        assert len(found) == len(whole)
        assert not renamed or all(name.startswith(("records/", "predictions/", "weights/")) for name in renamed)
        assert all(found[name] == whole[name] for name in found if name in whole)
    assert refused > 100


# JSON


def put(name: str, content: bytes) -> CHANGE:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


DOCUMENTS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "Expecting value"),
    ("no text", b"\xff\xfe{}", "not UTF-8"),
    ("a list", b"[]", "not of type"),
    ("deep lists", b"[" * 10**5 + b"]" * 10**5, "nested"),
    ("deep objects", b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "nested"),
    ("lists of 900", b"[" * 900 + b"]" * 900, "nested"),
    ("a million keys", b"{" + b",".join(b'"%x":0' % n for n in range(800_000)) + b"}", ""),
    ("NaN", b'{"name": NaN}', "NaN is not JSON"),
    ("infinity", b'{"name": -Infinity}', "Infinity is not JSON"),
    ("too large a number", b'{"name": 1e400}', "too large"),
    ("10^5 digits", b'{"name": ' + b"9" * 10**5 + b"}", "limit"),
    ("a key twice", b'{"name": "a", "name": "b"}', "stands twice"),
    ("10^5 keys twice", b"{" + b",".join(b'"%d":0' % (n % 10**5) for n in range(2 * 10**5)) + b"}", "stands twice"),
    ("a very long key twice", b'{"' + b"k" * 10**6 + b'":1,"' + b"k" * 10**6 + b'":1}', "kkk"),
    ("half a character as a key", b'{"\\ud800": 1}', ""),
    ("a trailing comma", b'{"a": 1,}', "bad-json"),
    ("two documents", b"{}{}", "Extra data"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "word"), [row[1:] for row in DOCUMENTS], ids=[row[0] for row in DOCUMENTS])
def test_json_that_is_none_or_too_much_of_it_is_refused_in_little_time(
    made: Made, tmp_path: Path, content: bytes, word: str
) -> None:
    record = f"records/{made.records[0].document['id']}.json"
    for name in (SUBMISSION, record, STATEMENT) if len(content) < 2 * 10**6 else (record,):
        folder = tmp_path / name.replace("/", "-")
        tampered(made.folder, put(name, content), folder, mend=False)
        if name == record:
            document = document_of(folder / SUBMISSION)
            document["files"][record] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            seal(folder, document)
        began = time.process_time()
        with pytest.raises(DataError) as caught:
            read_submission(folder)
        assert time.process_time() - began < 30
        line = str(caught.value)
        assert name in line
        assert line.isprintable()
        assert len(line) < 1200
        if word and caught.value.code != "bad-statement":
            assert word in line


def test_what_a_schema_leaves_open_is_still_json_that_can_be_hashed(made: Made, tmp_path: Path) -> None:
    file = f"records/{made.records[0].document['id']}.json"
    for number, certificate in enumerate([{"\ud800": 1}, {"a": "\udfff"}, {"a": 2**60}]):

        def change(folder: Path, certificate: Any = certificate) -> None:
            document = document_of(folder / file)
            document["certificate"] = certificate
            content = json.dumps(document).encode()
            (folder / file).write_bytes(content)
            listed = document_of(folder / SUBMISSION)
            listed["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            seal(folder, listed)

        refusal(tampered(made.folder, change, tmp_path / str(number), mend=False), "bad-value", file)


# What a submission says of itself


def _first(folder: Path, kind: str) -> Path:
    return min((folder / kind).iterdir())


def _twice(folder: Path) -> None:
    document = document_of(folder / SUBMISSION)
    document["runs"].append(document["runs"][0])
    seal(folder, document)


def _two_records(folder: Path) -> None:
    """Another content under the id of the first run."""
    document = document_of(folder / SUBMISSION)
    first = folder / document["runs"][0]["record"]
    other = first.with_name("other.json")
    shutil.copy(first, other)
    document["runs"].append({**document["runs"][0], "record": "records/other.json"})
    content = other.read_bytes()
    document["files"]["records/other.json"] = {
        "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)
    }  # fmt: skip
    seal(folder, document)


def _listed(field: str, value: Any, kind: str = "predictions") -> CHANGE:
    """A change of what $.files says of the first file of a kind."""

    def change(folder: Path) -> None:
        document = document_of(folder / SUBMISSION)
        name = f"{kind}/{_first(folder, kind).name}"
        document["files"][name][field] = value
        seal(folder, document)

    return change


def _record(*path: Any, value: Any, mend: bool = True) -> CHANGE:
    def change(folder: Path) -> None:
        name = document_of(folder / SUBMISSION)["runs"][0]["record"]
        edited(name, *path, value=value)(folder)
        if mend:
            mend_digests(folder)
        else:
            document = document_of(folder / SUBMISSION)
            content = (folder / name).read_bytes()
            document["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            seal(folder, document)

    return change


def _statement(*path: Any, value: Any) -> CHANGE:
    return edited(STATEMENT, *path, value=value)


def _sealed(*path: Any, value: Any) -> CHANGE:
    def change(folder: Path) -> None:
        edited(SUBMISSION, *path, value=value)(folder)
        seal(folder, document_of(folder / SUBMISSION))

    return change


FUTURE = "https://unlearnbench.org/schemas/{}/2.json"
CLAIMS: list[tuple[str, CHANGE, str, str]] = [
    ("a missing record", lambda f: _first(f, "records").unlink(), "missing-file", "records/"),
    ("missing predictions", lambda f: _first(f, "predictions").unlink(), "missing-file", "predictions/"),
    ("a missing statement", lambda f: (f / STATEMENT).unlink(), "missing-file", STATEMENT),
    ("predictions of another size", lambda f: os.truncate(_first(f, "predictions"), 9), "wrong-digest", "has 9 bytes"),
    ("predictions of another digest", lambda f: _flip(_first(f, "predictions")), "wrong-digest", "predictions/"),
    ("weights of another digest", lambda f: _flip(_first(f, "weights")), "wrong-digest", "weights/"),
    ("a record of another digest", lambda f: _flip(_first(f, "records"), b"2"), "wrong-digest", "records/"),
    ("a digest that is not the name", _listed("sha256", SHA), "wrong-digest", "not named by the sha256"),
    ("a size that is not a number", _listed("bytes", "9"), "bad-value", "bytes"),
    ("a run twice", _twice, "duplicate-run", "$.runs.2.id"),
    ("two records of one run", _two_records, "wrong-id", "$.runs.2.id"),
    ("a run under another id", _sealed("runs", 0, "id", value="other"), "wrong-id", "$.runs.0.id"),
    ("a run without predictions", both(change_run("predictions", None), mend_digests),
     "missing-predictions", "$.runs.0.predictions"),
    ("a run whose files are not listed",
     _sealed("runs", 0, "predictions", "gold", value=f"predictions/{SHA}.safetensors"), "missing-file", ".gold"),
    ("a run of an unlisted record", _sealed("runs", 0, "record", value="records/x.json"), "missing-file", ".record"),
    ("a dropped run", lambda f: _sealed("runs", value=document_of(f / SUBMISSION)["runs"][:1])(f), "unexpected-file",
     "belongs to no run"),
    ("a record that was changed", _record("readings", 0, "value", value=0.5, mend=False), "wrong-digest", "$.digest"),
    ("a record with another spec id", _record("spec_id", value=SHA, mend=False), "wrong-digest", "$.spec_id"),
    ("a record with another id", _record("id", value="other"), "wrong-id", "$.id"),
    ("a record of other requests", _record("requests", 0, "kind", value="samples"), "bad-value", "$.requests"),
    ("a spec that is not resolved", _record("spec", "recipe", value={"epochs": 2}), "bad-value", "$.spec"),
    ("a record without a model", _record("models", value={}), "bad-value", "models"),
    ("a record that is no record", _record("status", value="splendid", mend=False), "unknown-value", "$.status"),
    ("a number that is text", _record("readings", 0, "value", value="NaN", mend=False), "bad-value", "readings"),
    ("a record of a future version", _record("$schema", value=FUTURE.format("run-record"), mend=False),
     "unknown-schema", "newer unlearnbench"),
    ("a submission of a future version", edited(SUBMISSION, "$schema", value=FUTURE.format("submission")),
     "unknown-schema", "version 2"),
    ("a schema that is no text", edited(SUBMISSION, "$schema", value=3), "bad-value", "$schema"),
    ("a property of its own", edited(SUBMISSION, "verified", value=True), "unknown-property", "verified"),
    ("a name that climbs", edited(SUBMISSION, "name", value="../evil"), "bad-value", "name"),
    ("a name with a line after it", edited(SUBMISSION, "name", value="evil\n"), "bad-value", "name"),
    ("a link that runs", edited(SUBMISSION, "statement", "paper", value="javascript:alert(1)"), "bad-value", "paper"),
    ("a file that is not allowed", edited(SUBMISSION, "files", "../x", value={"sha256": SHA, "bytes": 1}), "bad-value",
     "files"),
    ("a Statement of others", _statement("subject", 0, "digest", "sha256", value=SHA), "bad-statement", STATEMENT),
    ("a Statement with a field more", _statement("level", value="rerun"), "bad-statement", STATEMENT),
    ("a Statement of another type", _statement("_type", value="x"), "bad-statement", STATEMENT),
    ("a Statement over fewer files", lambda f: _shorter(f), "bad-statement", STATEMENT),
    ("a submission that was changed", edited(SUBMISSION, "statement", "notes", value="x"), "bad-statement", STATEMENT),
]  # fmt: skip


def _flip(path: Path, by: bytes = b"\xff") -> None:
    content = bytearray(path.read_bytes())
    place = len(content) - 20
    content[place] ^= by[0]
    path.write_bytes(content)


def _shorter(folder: Path) -> None:
    document = document_of(folder / STATEMENT)
    del document["subject"][0]
    write(folder / STATEMENT, document)


@pytest.mark.parametrize(("change", "code", "word"), [row[1:] for row in CLAIMS], ids=[row[0] for row in CLAIMS])
def test_a_submission_that_is_not_what_it_says_is_refused_with_the_place(
    made: Made, tmp_path: Path, change: CHANGE, code: str, word: str
) -> None:
    refusal(tampered(made.folder, change, tmp_path / "copy", mend=False), code, word)


def test_a_spec_that_cannot_be_resolved_is_refused_though_its_digest_is_right(made: Made, tmp_path: Path) -> None:
    document = json.loads(json.dumps(made.records[0].document))
    document["spec"]["recipe"]["speed"] = 1
    document["digest"] = content_digest(document)
    name = f"records/{document['id']}.json"
    change = both(put(name, canonical(document)), lambda f: _list_files(f, document_of(f / SUBMISSION)))
    refusal(tampered(made.folder, change, tmp_path / "copy", mend=False), "bad-value", name, "$.spec", "speed")


def test_a_signature_is_no_part_of_what_is_listed(made: Made, tmp_path: Path) -> None:
    folder = tampered(made.folder, put(SIGNATURE, b"{}"), tmp_path / "copy", mend=False)
    assert SIGNATURE in read_submission(folder).package.files


# Tensors


def tensors(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(kind: str = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets, **more}


EIGHT = bytes(8)
HEADERS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "no safetensors file"),
    ("seven bytes", bytes(7), "no safetensors file"),
    ("a pickle", pickle.dumps({"forget": [1.0]}), "a pickle"),
    ("a pickle of protocol 0", pickle.dumps({"forget": [1.0]}, protocol=0), "no safetensors file"),
    ("a pickle behind a length", struct.pack("<Q", 40) + pickle.dumps({"forget": [0.1] * 9}), "no safetensors file"),
    ("a zip", b"PK\3\4" + bytes(60), "archive"),
    ("an npy file", b"\x93NUMPY\1\0v\0{'descr': '|O'}", "npy"),
    ("a length behind the end", struct.pack("<Q", 2**63) + b"{}", "no safetensors file"),
    ("a length of nothing", struct.pack("<Q", 0) + b"{}", "no safetensors file"),
    ("a header of 2 MiB", tensors(b"{" + b" " * 2**21 + b"}"), "header of more than 1 MiB"),
    ("a header that is not text", tensors(b"{\xff}"), "not text"),
    ("a header that is not JSON", tensors(b"{'a'}"), "header"),
    ("a deep header", tensors(b'{"a":' * 10**5), "nested"),
    ("a name twice", tensors(b'{"a":%s,"a":%s}' % ((json.dumps(one()).encode(),) * 2), EIGHT), "stands twice"),
    ("too many arrays", tensors({str(n): one() for n in range(5)}, EIGHT), "5 arrays; 4 are allowed"),
    ("100,000 arrays", tensors({str(n): one() for n in range(10**5)}, EIGHT), "header of more than 1 MiB"),
    ("metadata", tensors({"__metadata__": {"format": "pt"}, "a": one()}, EIGHT), "__metadata__"),
    ("an empty name", tensors({"": one()}, EIGHT), "name"),
    ("escapes in a name", tensors({"\x1b[2J": one()}, EIGHT), "name"),
    ("half a character in a name", tensors(b'{"\\ud800":%s}' % json.dumps(one()).encode(), EIGHT), "name"),
    ("whole numbers", tensors({"a": one("I64", (1,))}, EIGHT), "kind I64, not F16, F32"),
    ("an unknown kind", tensors({"a": one("F8_E4M3", (8,))}, EIGHT), "kind F8_E4M3"),
    ("a kind that is no text", tensors({"a": one(["F32"])}, EIGHT), "kind"),
    ("a field more", tensors({"a": one(code="x")}, EIGHT), "not described"),
    ("a list", tensors({"a": []}, EIGHT), "not described"),
    ("a negative shape", tensors({"a": one(shape=(-1, -2))}, EIGHT), "no shape"),
    ("a shape of true", tensors({"a": one(shape=(True, 2))}, EIGHT), "no shape"),
    ("a shape of floats", tensors({"a": one(shape=(2.0,))}, EIGHT), "no shape"),
    ("a shape that overflows", tensors({"a": one(shape=(2**63, 2**63, 4))}, EIGHT), "no shape"),
    ("a shape of many axes", tensors({"a": one(shape=(1,) * 9, offsets=(0, 4))}, EIGHT), "no shape"),
    ("a shape that is too large", tensors({"a": one(shape=(3,))}, EIGHT), "other bytes"),
    ("a shape that is too small", tensors({"a": one(shape=(1,))}, EIGHT), "other bytes"),
    ("arrays that overlap", tensors({"a": one(), "b": one()}, EIGHT), "overlaps"),
    ("a gap", tensors({"a": one(offsets=(4, 12))}, bytes(12)), "gap"),
    ("offsets the wrong way", tensors({"a": one(offsets=(8, 0))}, EIGHT), "gap"),
    ("one offset", tensors({"a": one(offsets=(0,))}, EIGHT), "no shape or place"),
    ("bytes that belong to no array", tensors({"a": one()}, bytes(9)), "describes 8 bytes and has 9"),
    ("fewer bytes than arrays", tensors({"a": one()}, bytes(7)), "describes 8 bytes and has 7"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "word"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_tensors_with_a_header_that_is_not_plain_are_refused(data: bytes, word: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tensors(data, "here", most=4, kinds=OUTPUTS)
    assert str(caught.value).startswith("[bad-tensors] here: ")
    assert word in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_was_written_is_read_and_is_the_same_bytes_in_any_order() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "test": rng.normal(size=(5, 3)).astype(np.float16),
        "forget": np.asfortranarray(rng.normal(size=(4, 3)).astype(np.float32)),
        "holdout": np.zeros((0, 3), np.float32),
    }
    data = write_tensors(arrays)
    assert data == write_tensors(dict(reversed(arrays.items())))
    found = read_tensors(data, "here", most=4, kinds=OUTPUTS)
    assert set(found) == set(arrays)
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])


def test_weights_of_every_allowed_kind_come_back_and_others_do_not() -> None:
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8]
    state = {str(kind): torch.ones(3, dtype=kind) for kind in [*kinds, torch.bool]}
    assert len(state) == len(WEIGHTS)
    found = read_weights(as_weights.save(state), "here", most=8)
    assert all(torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state)
    with pytest.raises(DataError, match="kind I16"):
        read_weights(as_weights.save({"a": torch.ones(2, dtype=torch.int16)}), "here", most=8)
    with pytest.raises(DataError, match="8 arrays; 7 are allowed"):
        read_weights(as_weights.save(state), "here", most=7)


# Outputs against the record


def _outputs(change: Callable[[dict[str, Any]], None], subject: str = "unlearned") -> CHANGE:
    """A change of the first run's arrays of a subject, with all names and digests mended."""

    def edit(folder: Path) -> None:
        document = document_of(folder / SUBMISSION)
        arrays = dict(as_arrays.load((folder / document["runs"][0]["predictions"][subject]).read_bytes()))
        change(arrays)
        document["runs"][0]["predictions"][subject] = _put(folder, "predictions", write_tensors(arrays))
        used = {name for run in document["runs"] for kind in ("predictions", "weights") for name in run[kind].values()}
        for path in folder.glob("*/*.safetensors"):
            if path.relative_to(folder).as_posix() not in used:
                path.unlink()
        _list_files(folder, document)

    return edit


def _with(split: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[split] = make(arrays.get(split))

    return change


ARRAYS: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("a row less", _with("forget", lambda a: a[:-1]), "forget has 145 rows, not the 146"),
    ("a row more", _with("retain", lambda a: np.concatenate([a, a[:1]])), "retain has 1292 rows, not the 1291"),
    ("a split less", lambda arrays: arrays.pop("holdout"), "holdout has 0 rows, not the 37"),
    ("too many test rows", _with("test", lambda a: np.concatenate([a, a])), "test has 646 rows, not the 0 to"),
    ("no forgotten row", _with("forget", lambda a: a[:0]), "forget has no rows"),
    ("a class less", _with("test", lambda a: a[:, :-1].copy()), "test is of shape (323, 9)"),
    ("one axis", _with("test", lambda a: a[:, 0].copy()), "test is of shape (323,)"),
    ("an axis more", _with("test", lambda a: a[:, :, None]), "test is of shape (323, 10, 1)"),
    ("a single number", _with("test", lambda a: np.float32(1).reshape(())), "test has no rows"),
    ("NaN", _with("test", lambda a: np.full_like(a, np.nan)), "not finite, and the run did not diverge"),
    ("one infinite number", _with("retain", lambda a: np.where(a == a.max(), np.inf, a).astype(a.dtype)), "not finite"),
    ("labels", lambda arrays: arrays.update({"y": arrays.pop("holdout")}), "'y', which is no split"),
    ("a fifth array", lambda arrays: arrays.update({"forget/y": arrays["forget"]}), "5 arrays; 4 are allowed"),
    ("double precision", _with("test", lambda a: a.astype(np.float64)), "kind F64"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "word"), [row[1:] for row in ARRAYS], ids=[row[0] for row in ARRAYS])
def test_outputs_that_are_not_those_of_the_rows_are_refused_with_the_run(
    made: Made, tmp_path: Path, change: Callable[[dict[str, Any]], None], word: str
) -> None:
    submission = read_submission(tampered(made.folder, _outputs(change), tmp_path / "copy", mend=False))
    run = submission.runs[0]
    with pytest.raises(DataError) as caught:
        outputs(submission, run, "unlearned")
    assert word in str(caught.value)
    assert caught.value.code in ("bad-predictions", "bad-tensors")
    assert outputs(submission, run, "gold")


def test_outputs_of_a_run_that_diverged_may_be_no_numbers(made: Made, tmp_path: Path) -> None:
    def diverge(folder: Path) -> None:
        _outputs(_with("test", lambda a: np.full_like(a, np.nan)))(folder)
        _record("models", "unlearned", 0, "finite", value=False)(folder)
        _record("status", value="diverged")(folder)
        error = {"code": "diverged", "where": "", "message": "weights are not finite", "hint": ""}
        _record("error", value=error)(folder)

    submission = read_submission(tampered(made.folder, diverge, tmp_path / "copy", mend=False))
    assert np.isnan(outputs(submission, submission.runs[0], "unlearned")["test"]).all()


# Bounds, in a process that is measured

CHILD = """
import resource, sys, time
from pathlib import Path
from unlearnbench.api.errors import DataError
from unlearnbench.leaderboard.read import outputs, read_submission, weights
read_submission(Path(sys.argv[1]))
before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
for path in sys.argv[2:]:
    try:
        submission = read_submission(Path(path))
        outputs(submission, submission.runs[0], "unlearned")
        print("accepted", path)
    except DataError as problem:
        print(problem)
after = resource.getrusage(resource.RUSAGE_SELF)
print(int(after.ru_utime - before.ru_utime), int((after.ru_maxrss - before.ru_maxrss) / 1024))
"""


def test_hostile_submissions_are_refused_in_bounded_time_and_memory(made: Made, tmp_path: Path) -> None:
    record = made.records[0].document
    many = json.dumps({**record, "warnings": ["a"] * 10**6}, separators=(",", ":")).encode()
    wrong = json.dumps({**record, "readings": [0] * 400_000}, separators=(",", ":")).encode()
    name = f"records/{record['id']}.json"

    def listed(content: bytes) -> CHANGE:
        def change(folder: Path) -> None:
            (folder / name).write_bytes(content)
            document = document_of(folder / SUBMISSION)
            document["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            seal(folder, document)

        return change

    def directory(path: Path) -> None:
        """A directory of 10^5 entries, all of one member."""
        entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 2, 2, 14, 0, 0, 0, 0, 0, 0)
        body = (entry + b"records/a.json") * 10**5
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 10**5 % 2**16, 10**5 % 2**16, len(body), 46, 0)
        path.write_bytes(bytes(46) + body + end)

    hostile = [
        tampered(made.folder, listed(many), tmp_path / "many", mend=False),
        tampered(made.folder, listed(wrong), tmp_path / "wrong", mend=False),
        tampered(made.folder, _first_bytes(tensors({str(n): one() for n in range(10**5)}, EIGHT)), tmp_path / "header",
                 mend=False),
        tmp_path / "directory.zip",
        zipped(made.folder, tmp_path / "bomb.zip"),
    ]  # fmt: skip
    directory(tmp_path / "directory.zip")
    _packed_zeros(tmp_path / "bomb.zip", f"weights/{SHA}.safetensors", 500 * 2**20)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, made.folder, *hostile],
        capture_output=True, text=True, check=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (240, 240)),
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    assert ["bad-json" in lines[0], "bad-value" in lines[1], "bad-tensors" in lines[2], "bad-archive" in lines[3],
            "too-large" in lines[4]] == [True] * 5, lines  # fmt: skip
    seconds, mebibytes = map(int, last.split())
    assert seconds < 60
    assert mebibytes < 700


def _first_bytes(content: bytes) -> CHANGE:
    """The first run's outputs of the unlearned model, as any bytes."""

    def change(folder: Path) -> None:
        document = document_of(folder / SUBMISSION)
        files = document["runs"][0]["predictions"]
        old, files["unlearned"] = files["unlearned"], _put(folder, "predictions", content)
        used = {name for run in document["runs"] for name in run["predictions"].values()}
        if old not in used:
            (folder / old).unlink()
        _list_files(folder, document)

    return change


def _packed_zeros(path: Path, name: str, size: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(name)
        archive.writestr(info, packed)
    # What was stored is deflated bytes: say so, and what they grow to.
    for field, code, value, header in ((10, "<H", 8, 8), (24, "<L", size, 22)):
        patch_entry(field, code, value, name, header=header)(path)
