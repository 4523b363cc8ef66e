"""What an unlearner leaves to be taken away: tensors beside the record, JSON in their metadata."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from toys_support import RECIPE, images, new_stages, one_record

from unlearnbench.api import DataError
from unlearnbench.record import ARTIFACTS, Record, verify_record
from unlearnbench.spec import RunSpec


def wfnet(*classes: str) -> RunSpec:
    requests = [{"kind": "class", "classes": [name]} for name in classes]
    return images("toy-wfnet", *requests, model="toy-cnn", recipe=RECIPE)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A stream of two classes."""
    return one_record(tmp_path_factory.mktemp("artifacts"), wfnet("3", "5"))


def test_tensors_lie_beside_the_record_with_the_rest_as_metadata(record: Record) -> None:
    with safe_open(record.folder / ARTIFACTS, framework="pt") as file:
        told = json.loads(file.metadata()["artifacts"])
        shapes = {name: file.get_tensor(name).shape[0] for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert told == {"rows": [3, 5]}  # of the last request: all that were served
    assert shapes == {"0": 10, "3": 10}
    assert ARTIFACTS in record.document["files"]
    verify_record(record)


def test_another_file_is_not_the_one_of_the_record(record: Record, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in record.folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    content = bytearray((moved / ARTIFACTS).read_bytes())
    content[-1] ^= 1
    (moved / ARTIFACTS).write_bytes(content)
    with pytest.raises(DataError, match="is not the file that the record was written with"):
        verify_record(Record(record.document, moved))


def test_the_digest_of_the_record_covers_them(record: Record) -> None:
    changed = {**record.document, "artifacts": "0" * 64}
    with pytest.raises(DataError, match="its digest does not match its content"):
        verify_record(Record(changed, record.folder))


def test_what_comes_from_the_store_is_what_was_made(tmp_path: Path) -> None:
    spec = wfnet("3")
    made = new_stages(tmp_path).unlearned(spec).artifacts
    stages = new_stages(tmp_path)
    read = stages.unlearned(spec).artifacts
    assert stages.computed == []
    assert read["rows"] == made["rows"] == [3]
    assert all(torch.equal(read[name], made[name]) for name in ("0", "3"))


def test_whoever_leaves_no_tensors_leaves_no_file(tmp_path: Path) -> None:
    record = one_record(tmp_path, images("toy-finetune"))
    assert "artifacts" not in record.document
    assert not (record.folder / ARTIFACTS).exists()
