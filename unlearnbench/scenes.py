"""Scenes: the data, task, model interface and resolved requests of a run spec, loaded once and shared."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from unlearnbench.api.errors import DataError, IncompatibleError, PluginError
from unlearnbench.api.runtime import TASKS, DataJob, Fetches, Ref, Splits, Task, fabric_for
from unlearnbench.guard import guarded
from unlearnbench.identity import file_digest
from unlearnbench.parameters import resolve_parameters
from unlearnbench.parts import Parts, Selection, whole
from unlearnbench.registry import Registry
from unlearnbench.requests import carve_validation, resolve
from unlearnbench.spec import Choice, RunSpec
from unlearnbench.transforms import preprocessed

DATA_VARIABLE = "UNLEARNBENCH_DATA"


MOVING = ("resize", "flatten")
"""Steps of preprocessing after which a pixel is somewhere else."""


def data_root() -> Path:
    """The data folder: ``UNLEARNBENCH_DATA``, else the user's data folder."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else platformdirs.user_data_path("unlearnbench")


def scratch_folder() -> Path:
    """Where unpacked copies of data files are kept."""
    folder = platformdirs.user_cache_path("unlearnbench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class FileLedger:
    """Finds data files and remembers the sha256 of everything that was asked for."""

    root: Path
    files: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, sha256: str | None = None) -> Path:
        """Path of a file below the data folder (or of one's own, relative to the working directory).

        Raises:
            DataError: it does not exist, or has another sha256 than promised.
        """
        path = self.root / name
        if not path.is_file() and Path(name).is_file():
            path = Path(name)
        if not path.is_file():
            raise DataError("missing-file", f"no file {name} in the data folder", where=DATA_VARIABLE,
                            hint=f"set {DATA_VARIABLE} to the folder that holds it, or fetch the data set")  # fmt: skip
        try:
            found = file_digest(path)
        except OSError as problem:
            raise DataError("unreadable-file", f"{problem.strerror}", where=name) from problem
        if sha256 is not None and found != sha256:
            raise DataError("wrong-digest", f"has sha256 {found[:12]}..., not {sha256[:12]}...", where=name,
                            hint="the file was changed or cut off; fetch it again")  # fmt: skip
        self.files[Path(name).name if Path(name).is_absolute() else name] = found
        return path


def load_dataset(registry: Registry, choice: Choice, *, download: bool = False) -> tuple[Splits, Mapping[str, str]]:
    """Load a data set; returns its splits and the sha256 of every file that was read.

    Raises:
        DataError: files are missing or damaged.
        PluginError: the plugin broke, or its splits share rows.
    """
    component = registry.get("dataset", choice.name)
    ledger = FileLedger(data_root())
    job = DataJob(root=ledger.root, scratch=scratch_folder(), file=ledger.file)
    params = resolve_parameters(component.spec.params, choice.params, where=choice.name)
    where = f"dataset {choice.name}"
    with guarded(where):
        instance = component.cls(params)
        if download:
            if not isinstance(instance, Fetches):
                raise IncompatibleError(
                    "not-fetchable", "has nothing to download", where=where, hint="it is always there"
                )
            instance.fetch(job)
        splits = instance.load(job)
    if not isinstance(splits, Splits):
        raise PluginError("broken-contract", "load must return Splits", where=where)
    parts = [data.ids for data in (splits.train, splits.validation, splits.test, splits.holdout) if data is not None]
    ids = torch.cat(parts)
    if splits.train.edges is None and len(ids.unique()) != len(ids):
        raise PluginError("broken-contract", "train, validation, test and hold-out rows share ids", where=where)
    return splits, dict(sorted(ledger.files.items()))


def prepare(spec: RunSpec, splits: Splits) -> Splits:
    """Validation rows taken out of the training rows, then all inputs preprocessed as the training rows teach.

    Raises:
        DataError: annotations that cannot be of these rows.
        IncompatibleError: the preprocessing does not fit the rows.
    """
    task = TASKS[spec.task]
    _check_annotations(task, splits, spec.dataset.name)
    moving = next((step.name for step in spec.preprocessing if step.name in MOVING), None)
    if task.places and moving:
        raise IncompatibleError(
            "incompatible", f"{moving} would move images away from their {task.name} annotations",
            where="$.preprocessing", hint="choose the size as a parameter of the data set",
        )  # fmt: skip
    return preprocessed(carve_validation(splits, spec.validation, 0, TASKS[spec.task]), spec.preprocessing)


def _check_annotations(task: Task, splits: Splits, name: str) -> None:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test, "holdout": splits.holdout}
    for part, data in parts.items():
        fault = task.find_fault(data.x, data.y, len(data.outputs)) if data is not None and len(data) else None
        if data is not None and fault is not None:
            place = f"dataset {name}, {part} row {int(data.ids[fault.row])}"
            raise DataError("bad-annotations", fault.message, where=place,
                            hint="mend or leave out this row's annotations")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scene:
    """Data and requests of a run spec on a device. ``parts[k]`` is the k-th request after those before it."""

    task: Task
    splits: Splits
    files: Mapping[str, str]
    ref: Ref
    device: torch.device
    train: Selection
    validation: Selection
    parts: tuple[Parts, ...]

    def validation_beside(self, rows: Selection) -> Selection:
        """The validation rows on the graph that these training rows are on."""
        for part in self.parts:
            if part.retain is rows:
                return part.measured.get("validation", self.validation)
        return self.validation

    @cached_property
    def shared(self) -> tuple[Tensor, ...]:
        """Tensors that all phases share and none may write."""
        return tuple(t for part in (self.train, *(p.retain for p in self.parts)) for t in (part.data.x, part.data.y))


def make_scene(
    spec: RunSpec,
    splits: Splits,
    files: Mapping[str, str],
    device: torch.device,
    base: Path | None,
    kept: Tensor | None = None,
) -> Scene:
    """Resolve requests and the model's interface against the data, as ``prepare`` left them.

    ``kept`` are the positions of the only training rows that the run may see.
    """
    task = TASKS[spec.task]
    train = splits.train
    parts: list[Parts] = []
    for request in spec.requests:
        parts.append(resolve(request, splits, task, parts[-1] if parts else None, base))

    def narrowed(selection: Selection) -> Selection:
        if kept is None or selection.data is not train:
            return selection
        return Selection(selection.data, selection.index[torch.isin(selection.index, kept)], selection.elements)

    move: Callable[[Selection], Selection] = lambda s: narrowed(s).to(device)  # noqa: E731
    validation = whole(splits.validation) if splits.validation is not None else Selection(train, torch.arange(0))
    return Scene(
        task=task,
        splits=splits,
        files=files,
        ref=Ref(spec.model.name, spec.model.params, train.row_shape, len(train.outputs)),
        device=device,
        train=move(whole(train)),
        validation=validation.to(device),
        parts=tuple(
            replace(
                p,
                forget=move(p.forget),
                retain=move(p.retain),
                measured={name: move(s) for name, s in p.measured.items()},
            )
            for p in parts
        ),
    )


def device_of(name: str) -> torch.device:
    """The device of a name: cpu, cuda, mps, or auto for the best there is.

    Raises:
        IncompatibleError: the machine does not have it.
    """
    if name == "cpu":
        return torch.device("cpu")
    try:
        return fabric_for(name).device
    except Exception as problem:
        raise IncompatibleError(
            "no-device", f"{name} is not available here", where="--device", hint="use --device cpu"
        ) from problem
