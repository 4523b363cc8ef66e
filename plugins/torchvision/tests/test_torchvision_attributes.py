"""CelebA with several labels, on small lists and faces that the tests write in its format on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import TASKS
from unlearnbench_torchvision.attributes import CelebAAttributes
from unlearnbench_torchvision.celeba import CelebA
from unlearnbench_torchvision.params import CelebAAttributesParams, CelebAParams

NAMES = ["Bald", "Eyeglasses", "Male", "Mouth_Slightly_Open", "No_Beard", "Smiling"]
PARTITION = [0] * 12 + [1] * 3 + [2] * 7  # 22 faces: a quarter is 5.5


def has(i: int, attribute: str) -> int:
    """The bits of the face's number, another one for each attribute; also drawn into its colour."""
    return (i >> NAMES.index(attribute)) & 1 if attribute != "Smiling" else int(i % 3 == 0)


@pytest.fixture
def faces(job: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = Path(job.root) / "celeba/celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    rows = [(i, f"{i + 1:06d}.jpg") for i in range(len(PARTITION))]
    for i, name in rows:
        Image.new("RGB", (178, 218), (i * 10, 255 * has(i, "Smiling"), 0)).save(folder / "img_align_celeba" / name)
    signs = "".join(f"{name} {' '.join(str(2 * has(i, a) - 1) for a in NAMES)}\n" for i, name in rows)
    lists = {
        "list_attr_celeba.txt": f"{len(rows)}\n{' '.join(NAMES)} \n{signs}",
        "identity_CelebA.txt": "".join(f"{name} {100 + i // 2}\n" for i, name in rows),
        "list_bbox_celeba.txt": f"{len(rows)}\nimage_id x_1\n" + "".join(f"{name} 1\n" for _, name in rows),
        "list_landmarks_align_celeba.txt": f"{len(rows)}\nx\n" + "".join(f"{name} 1\n" for _, name in rows),
        "list_eval_partition.txt": "".join(f"{name} {PARTITION[i]}\n" for i, name in rows),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    digests = [("", hashlib.md5((folder / name).read_bytes()).hexdigest(), name) for name in lists]
    monkeypatch.setattr(tv.CelebA, "file_list", digests)
    return job


def load(job: Any, **params: Any) -> Any:
    return CelebAAttributes(CelebAAttributesParams(**{"image_size": 16, **params})).load(job)


def test_the_labels_are_the_attributes_in_the_order_in_which_they_are_named(faces: Any) -> None:
    found = load(faces, normalise=False)
    assert found.train.outputs == ("Smiling", "Mouth_Slightly_Open", "No_Beard", "Eyeglasses", "Bald")
    assert found.train.ids.tolist() == list(range(12))
    assert found.test.ids.tolist() == list(range(15, 22))
    assert found.validation is None
    for part in (found.train, found.test):
        assert part.x.dtype == part.y.dtype == torch.float32
        assert part.y.tolist() == [[float(has(i, a)) for a in part.outputs] for i in part.ids.tolist()]
        # What is drawn into a face tells which file it was read from.
        assert torch.equal((part.x[:, 1] > 0.5).flatten(1).all(1).float(), part.y[:, 0])
        assert (part.x[:, 0].mean((1, 2)) * 25.5).round().tolist() == pytest.approx(part.ids.tolist())
        people = [part.values["person"][k] for k in part.columns["person"].tolist()]
        assert people == [str(100 + i // 2) for i in part.ids.tolist()]
        assert TASKS["multi-label"].find_fault(part.x, part.y, len(part.outputs)) is None


def test_the_official_validation_rows_are_handed_over_when_asked_for(faces: Any) -> None:
    found = load(faces, validation=True, test_rows=2)
    assert set(found.validation.ids.tolist()) < {12, 13, 14}
    assert len(found.validation) == len(found.test) == 2
    assert len(load(faces, validation=True, test_rows=7).validation) == 3
    plain = load(faces)
    assert torch.equal(found.train.x, plain.train.x)  # validation rows teach no statistics


def test_the_papers_division_keeps_the_last_quarter_rounded_down(faces: Any) -> None:
    found = load(faces, split="paper", attributes=("Smiling", "Male"), normalise=False)
    n_test = int(22 * 0.25)  # as the authors write it
    assert n_test == 5
    assert found.train.ids.tolist() == list(range(22 - n_test))
    assert found.test.ids.tolist() == list(range(22 - n_test, 22))
    for part in (found.train, found.test):
        assert part.y.tolist() == [[float(has(i, "Smiling")), float(has(i, "Male"))] for i in part.ids.tolist()]
        assert (part.x[:, 0].mean((1, 2)) * 25.5).round().tolist() == pytest.approx(part.ids.tolist())
        people = [part.values["person"][k] for k in part.columns["person"].tolist()]
        assert people == [str(100 + i // 2) for i in part.ids.tolist()]
    with pytest.raises(UsageError, match="no validation rows") as caught:
        load(faces, split="paper", validation=True)
    assert caught.value.where == "celeba-attributes.validation"


def test_the_papers_division_goes_by_number_whatever_the_order_of_the_lists(faces: Any, monkeypatch: Any) -> None:
    folder = Path(faces.root) / "celeba/celeba"
    for name, head in (
        ("list_attr_celeba.txt", 2),
        ("identity_CelebA.txt", 0),
        ("list_bbox_celeba.txt", 2),
        ("list_landmarks_align_celeba.txt", 2),
        ("list_eval_partition.txt", 0),
    ):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:head] + lines[head:][::-1]))
    names = [name for *_, name in tv.CelebA.file_list]
    digests = [("", hashlib.md5((folder / name).read_bytes()).hexdigest(), name) for name in names]
    monkeypatch.setattr(tv.CelebA, "file_list", digests)
    found = load(faces, split="paper", normalise=False)
    assert found.test.ids.tolist() == [17, 18, 19, 20, 21]
    assert found.test.y[:, 0].tolist() == [float(has(i, "Smiling")) for i in range(17, 22)]
    assert (found.test.x[:, 0].mean((1, 2)) * 25.5).round().tolist() == pytest.approx(found.test.ids.tolist())


def test_images_are_those_of_celeba(faces: Any) -> None:
    one, several = CelebA(CelebAParams(image_size=24)).load(faces), load(faces, image_size=24)
    assert torch.equal(one.train.x, several.train.x)
    assert torch.equal(one.test.x, several.test.x)
    assert torch.equal(one.train.y.float(), several.train.y[:, 0])
    assert one.test.columns["person"].tolist() == several.test.columns["person"].tolist()


def test_rows_are_drawn_by_seed_and_only_their_images_are_read(faces: Any) -> None:
    found = load(faces, rows=5, test_rows=3)
    again = load(faces, rows=5, test_rows=3)
    assert (len(found.train), len(found.test)) == (5, 3)
    assert found.train.digest() == again.train.digest()
    assert found.train.ids.tolist() != load(faces, rows=5, split_seed=1).train.ids.tolist()
    drawn = set(found.train.ids.tolist()) | set(found.test.ids.tolist())
    faces.read.clear()
    load(faces, rows=5, test_rows=3)
    assert {int(Path(name).stem) - 1 for name in faces.read if name.endswith(".jpg")} == drawn
    with pytest.raises(DataError, match="asks for 13 of 12 rows") as caught:
        load(faces, rows=13)
    assert caught.value.where == "celeba-attributes.rows"


def test_an_unknown_attribute_and_one_named_twice_are_refused(faces: Any) -> None:
    with pytest.raises(UsageError, match="did you mean Eyeglasses") as caught:
        load(faces, attributes=("Smiling", "Eyeglases"))
    assert caught.value.where == "celeba-attributes.attributes"
    with pytest.raises(UsageError, match="twice"):
        load(faces, attributes=("Smiling", "Bald", "Smiling"))


def test_a_damaged_face_and_a_changed_list_are_named(faces: Any) -> None:
    folder = Path(faces.root) / "celeba/celeba"
    image = folder / "img_align_celeba/000003.jpg"
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=r"000003\.jpg") as caught:
        load(faces)
    assert caught.value.code == "corrupt-file"
    (folder / "list_attr_celeba.txt").write_text("0\n")
    with pytest.raises(DataError, match="md5 differs"):
        load(faces)


def test_loading_never_downloads_and_fetching_tries_to(job: Any, downloads: list[str]) -> None:
    with pytest.raises(DataError, match="unlearnbench data fetch celeba-attributes") as caught:
        load(job)
    assert caught.value.code == "missing-file"
    assert downloads == []
    with pytest.raises(DataError) as caught:
        CelebAAttributes(CelebAAttributesParams()).fetch(job)
    assert caught.value.code == "fetch-failed"
    assert downloads or "gdown" in str(caught.value)
    assert list(Path(job.root).iterdir()) == []
