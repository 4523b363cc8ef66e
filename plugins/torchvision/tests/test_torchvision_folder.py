"""Folders of images: real digits written as files by the test, labelled by subfolders or by a CSV file."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from unlearnbench.api import DataError, UnlearnBenchError, UsageError
from unlearnbench_torchvision.folder import ImageFolder
from unlearnbench_torchvision.params import ImageFolderParams

N = 120
SITES = ("north", "south")


@cache
def digits() -> Any:
    return load_digits()


def image(i: int) -> np.ndarray[Any, Any]:
    """The i-th digit as bytes [8, 8]."""
    return (digits().images[i] * 15).astype(np.uint8)


def digit(i: int) -> str:
    return str(digits().target[i] % 3)


@pytest.fixture
def folders(job: Any) -> Any:
    """120 digits in three classes, a subfolder for each."""
    for i in range(N):
        path = Path(job.root) / "mine" / digit(i) / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(i)).save(path)
    (Path(job.root) / "mine" / "notes.txt").write_text("not an image")
    return job


def write_csv(folder: Path, rows: list[dict[str, Any]], name: str = "labels.csv") -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def labelled(job: Any) -> Any:
    """The same digits side by side, with a CSV file that says class, split, person and site."""
    folder = Path(job.root) / "mine"
    folder.mkdir()
    for i in range(N):
        Image.fromarray(image(i)).save(folder / f"{i:03d}.png")
    write_csv(folder, [row(i) for i in range(N)])
    return job


def row(i: int, **more: Any) -> dict[str, Any]:
    return {"file": f"{i:03d}.png", "digit": digit(i), "split": "test" if i % 4 == 0 else "train",
            "person": i % 11, "site": SITES[i % 2], **more}  # fmt: skip


CSV: dict[str, Any] = {"folder": "mine", "labels": "labels.csv", "label": "digit", "normalise": False}


def load(job: Any, **params: Any) -> Any:
    return ImageFolder(ImageFolderParams(**params)).load(job)


def refusal(job: Any, **params: Any) -> str:
    with pytest.raises(UnlearnBenchError) as caught:
        load(job, **params)
    assert isinstance(caught.value, DataError | UsageError)
    return str(caught.value)


def test_subfolders_are_classes(folders: Any) -> None:
    found = load(folders, folder="mine", normalise=False, test_fraction=0.25)
    listed = sorted((digit(i), i) for i in range(N))  # files in the order of their paths
    assert found.train.outputs == ("0", "1", "2")
    assert (len(found.train), len(found.test)) == (90, 30)
    for data in (found.train, found.test):
        for x, y, k in zip(data.x, data.y.tolist(), data.ids.tolist(), strict=True):
            assert str(y) == listed[k][0]
            assert torch.equal((x[0] * 255).round().to(torch.uint8), torch.from_numpy(image(listed[k][1])))
    counts = torch.bincount(found.train.y) + torch.bincount(found.test.y)
    assert (torch.bincount(found.test.y) / counts - 0.25).abs().max() < 0.02
    assert len([name for name in folders.read if name.endswith(".png")]) == N
    other = load(folders, folder="mine", split_seed=1, test_fraction=0.25)
    assert other.test.ids.tolist() != found.test.ids.tolist()


def test_train_and_test_folders_divide(folders: Any) -> None:
    root = Path(folders.root) / "mine"
    for i in range(N):
        target = root / ("test" if i % 4 == 0 else "train") / digit(i) / f"{i:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / digit(i) / target.name).rename(target)
    for name in "012":
        (root / name).rmdir()
    found = load(folders, folder="mine")
    assert (len(found.train), len(found.test)) == (90, 30)
    assert not set(found.train.ids.tolist()) & set(found.test.ids.tolist())
    assert found.train.x.mean().abs() < 1e-5  # normalised by the training rows
    assert found.test.x.mean().abs() > 1e-4
    Image.fromarray(image(0)).save(root / "loose.png")
    assert "loose.png is not below train/CLASS or test/CLASS" in refusal(folders, folder="mine")


def test_a_csv_file_gives_labels_split_and_groups(labelled: Any) -> None:
    found = load(labelled, **CSV, groups=("person", "site"), rows=40)
    assert (len(found.train), len(found.test)) == (40, 30)
    for data, rest in ((found.train, {1, 2, 3}), (found.test, {0})):
        ids = data.ids.tolist()
        assert {i % 4 for i in ids} == rest
        assert [found.train.outputs[y] for y in data.y.tolist()] == [digit(i) for i in ids]
        for column, truth in (("person", lambda i: str(i % 11)), ("site", lambda i: SITES[i % 2])):
            names = data.values[column]
            assert [names[code] for code in data.columns[column].tolist()] == [truth(i) for i in ids]
    assert found.train.values["person"] == tuple(str(n) for n in range(11))  # by value, not as texts
    assert len([name for name in labelled.read if name.endswith(".png")]) == 70


def test_channels_and_sizes_are_made_equal(labelled: Any) -> None:
    folder = Path(labelled.root) / "mine"
    Image.fromarray(np.stack([image(5)] * 3, -1)).resize((20, 16)).save(folder / "005.png")
    assert "images differ in size" in refusal(labelled, **CSV)
    found = load(labelled, **CSV, image_size=12)
    assert found.train.x.shape[1:] == (3, 12, 12)
    assert load(labelled, **CSV, image_size=12, channels=1).train.x.shape[1:] == (1, 12, 12)


def test_a_csv_without_splits_is_divided_by_a_seed(labelled: Any) -> None:
    rows = [{k: v for k, v in row(i).items() if k != "split"} for i in range(N)]
    write_csv(Path(labelled.root) / "mine", rows, "bare.csv")
    one = load(labelled, **CSV | {"labels": "bare.csv"}, test_fraction=0.1)
    assert (len(one.train), len(one.test)) == (108, 12)
    two = load(labelled, **CSV | {"labels": "bare.csv"}, test_fraction=0.1, split_seed=3)
    assert one.test.ids.tolist() != two.test.ids.tolist()


def only_in_test(i: int) -> dict[str, Any]:
    return row(i, digit="9" if i == 4 else digit(i))


BAD_ROWS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no label column": (
        [{"file": "000.png", "Digit": "1"}],
        "[missing-column] mine/bad.csv: no column 'digit'; columns: file, Digit",
    ),
    "no file column": ([{"path": "000.png", "digit": "1"}], "[missing-column] mine/bad.csv: no column 'file'"),
    "no label": (
        [row(0), row(1, digit="")],
        "[missing-values] mine/bad.csv: line 3 has no digit; fill it in",
    ),
    "split": (
        [row(0), row(1, split="trian")],
        "[bad-data] mine/bad.csv: line 3 has split 'trian'; write train or test",
    ),
    "outside": ([row(0), row(1, file="../x.png")], "[bad-data] mine/bad.csv: line 3 names a file outside the folder"),
    "one class": ([row(i, digit="3") for i in range(8)], "[one-class] mine: all images are of class '3'"),
    "class of test alone": (
        [only_in_test(i) for i in range(N)],
        "[bad-data] mine: no training image is of class '9', but test images are; add training images",
    ),
    "no test images": ([row(i, split="train") for i in range(8)], "[too-few-rows] mine: has no test images"),
    "missing file": (
        [*(row(i) for i in range(8)), row(9, file="009x.png")],
        "[missing-file] mine/009x.png: is not there; check the name in the CSV file",
    ),
}


@pytest.mark.parametrize(("rows", "line"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_csv_files_are_refused_in_one_line(labelled: Any, rows: list[dict[str, Any]], line: str) -> None:
    write_csv(Path(labelled.root) / "mine", rows, "bad.csv")
    assert refusal(labelled, **CSV | {"labels": "bad.csv"}).startswith(line)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("file,digit\nä.png,1\n".encode("latin-1"), "[unreadable-file] mine/bad.csv: is not UTF-8: "),
        (b"", "[unreadable-file] mine/bad.csv: is empty"),
        (b"file,digit\n1.png,2,3\n", "[unreadable-file] mine/bad.csv: line 2 has 3 fields, not 2"),
        (b'file,digit\n"1.png,2\n', "[unreadable-file] mine/bad.csv: is not CSV"),
        (b"file,digit\n", "[bad-data] mine: has no images"),
    ],
)
def test_bad_bytes_are_refused_in_one_line(labelled: Any, content: bytes, line: str) -> None:
    (Path(labelled.root) / "mine" / "bad.csv").write_bytes(content)
    assert refusal(labelled, **CSV | {"labels": "bad.csv"}).startswith(line)


def test_missing_and_broken_files_are_named(folders: Any) -> None:
    assert "[bad-parameter] image-folder.folder: names no folder" in refusal(folders)
    assert "[missing-file] yours: is not a folder" in refusal(folders, folder="yours")
    assert "[missing-file] mine/none.csv" in refusal(folders, folder="mine", labels="none.csv")
    assert "groups stand in a CSV file" in refusal(folders, folder="mine", groups=("site",))
    broken = next((Path(folders.root) / "mine" / "1").iterdir())
    broken.write_bytes(broken.read_bytes()[:60])
    assert refusal(folders, folder="mine").startswith(f"[corrupt-file] mine/1/{broken.name}: cannot be decoded")
    loose = Path(folders.root) / "mine" / "loose.png"
    Image.fromarray(image(0)).save(loose)
    assert "loose.png is not below a subfolder for its class" in refusal(folders, folder="mine")


def test_a_run_forgets_a_person_of_a_folder(labelled: Any, tmp_path: Path) -> None:
    """From the files to a record, in a process of its own; the group column is used by a cascade."""
    partition = {"kind": "samples", "partition": [
        {"name": "persons", "how": "group", "column": "person", "values": [3, 7]},
        {"name": "forget", "how": "group", "of": "persons", "column": "site", "values": ["north"]},
    ]}  # fmt: skip
    settings = {"folder": "mine", "labels": "labels.csv", "label": "digit", "groups": '["person", "site"]'}
    flags = [f for k, v in settings.items() for f in ("--set", f"image-folder.{k}={v}")]
    command = [sys.executable, "-m", "unlearnbench", "run", "--dataset", "image-folder", "--model", "cnn",
               "-u", "identity", "--set", "recipe.epochs=2", "--no-tracking", "--json", *flags]  # fmt: skip
    env = {**os.environ, "UNLEARNBENCH_DATA": str(labelled.root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--forget", json.dumps(partition)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    train = [i for i in range(N) if i % 4]
    persons = [i for i in train if i % 11 in (3, 7)]
    assert record["requests"][0]["partition"] == [
        {"name": "persons", "rows": len(persons)},
        {"name": "forget", "rows": len([i for i in persons if i % 2 == 0])},
    ]
    assert record["data"]["train"]["rows"] == len(train)
    assert len([name for name in record["data"]["files"] if name.endswith(".png")]) == N
