"""CelebA on small files that the tests write in its format on disk: lists of numbers, one JPEG for each face."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError, UsageError
from unlearnbench_torchvision.celeba import CelebA
from unlearnbench_torchvision.params import CelebAParams

ATTRIBUTES = ["Male", "Smiling", "Young"]
PARTITION = [0] * 12 + [1] * 2 + [2] * 6


def smiles(i: int) -> int:
    return int(i % 3 == 0)


def person(i: int) -> int:
    return 100 + i // 2


@pytest.fixture
def faces(job: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = Path(job.root) / "celeba/celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(len(PARTITION))]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (i * 10, 255 * smiles(i), 0)).save(folder / "img_align_celeba" / name)
    rows = list(enumerate(names))
    attributes = "".join(f"{name} {'1' if i % 2 else '-1'} {'1' if smiles(i) else '-1'} -1\n" for i, name in rows)
    lists = {
        "list_attr_celeba.txt": f"{len(rows)}\n{' '.join(ATTRIBUTES)} \n{attributes}",
        "identity_CelebA.txt": "".join(f"{name} {person(i)}\n" for i, name in rows),
        "list_bbox_celeba.txt": f"{len(rows)}\nimage_id x_1 y_1\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_landmarks_align_celeba.txt": f"{len(rows)}\nx y\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_eval_partition.txt": "".join(f"{name} {PARTITION[i]}\n" for i, name in rows),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    listed = [("", hashlib.md5((folder / name).read_bytes()).hexdigest(), name) for name in lists]
    monkeypatch.setattr(tv.CelebA, "file_list", listed)
    return job


def test_celeba_has_an_attribute_as_class_and_persons_as_groups(faces: Any) -> None:
    found = CelebA(CelebAParams(image_size=16, normalise=False)).load(faces)
    assert found.train.outputs == ("not Smiling", "Smiling")
    assert found.train.x.shape == (12, 3, 16, 16)
    assert found.test.x.shape == (6, 3, 16, 16)
    assert found.train.ids.tolist() == list(range(12))
    assert found.test.ids.tolist() == list(range(12, 18))
    for data, first in ((found.train, 0), (found.test, 14)):
        originals = range(first, first + len(data))
        assert data.y.tolist() == [smiles(i) for i in originals]
        assert [data.values["person"][k] for k in data.columns["person"].tolist()] == [
            str(person(i)) for i in originals
        ]
        assert torch.equal((data.x[:, 1] > 0.5).flatten(1).all(1).long(), data.y)
    assert sum(name.endswith(".jpg") for name in faces.read) == 18
    assert sum(name.endswith(".txt") for name in faces.read) == 5


def test_celeba_reads_the_images_of_the_drawn_rows_only(faces: Any) -> None:
    found = CelebA(CelebAParams(attribute="Male", rows=4, test_rows=2, image_size=None)).load(faces)
    assert found.train.x.shape == (4, 3, 218, 178)
    assert found.train.y.tolist() == [i % 2 for i in found.train.ids.tolist()]
    assert found.train.y.bincount().tolist() == [2, 2]
    read = sorted(int(Path(name).stem) for name in faces.read if name.endswith(".jpg"))
    assert read == sorted([i + 1 for i in found.train.ids.tolist()] + [i + 3 for i in found.test.ids.tolist()])


def test_celeba_suggests_an_attribute(faces: Any) -> None:
    with pytest.raises(UsageError, match="did you mean Smiling") as caught:
        CelebA(CelebAParams(attribute="smilling")).load(faces)
    assert caught.value.where == "celeba.attribute"


def test_damaged_files_of_celeba_are_named(faces: Any) -> None:
    folder = Path(faces.root) / "celeba/celeba"
    image = folder / "img_align_celeba/000003.jpg"
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=r"000003\.jpg") as caught:
        CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "corrupt-file"
    image.unlink()
    with pytest.raises(DataError, match=r"000003\.jpg") as caught:
        CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "missing-file"
    (folder / "identity_CelebA.txt").write_text("000001.jpg")
    with pytest.raises(DataError, match=r"identity_CelebA\.txt") as caught:
        CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "corrupt-file"
