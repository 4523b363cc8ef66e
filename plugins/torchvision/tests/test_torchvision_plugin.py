"""The light module: specs, parameters, and what importing it costs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

from unlearnbench.api.params import param_fields
from unlearnbench.api.runtime import Component, Fetches
from unlearnbench_torchvision import plugin

SPECS = [*plugin.unlearnbench_datasets(), *plugin.unlearnbench_models()]


def test_all_promised_components_are_there() -> None:
    assert [(s.kind, s.name) for s in SPECS] == [
        ("dataset", "mnist"),
        ("dataset", "fashion-mnist"),
        ("dataset", "kmnist"),
        ("dataset", "cifar10"),
        ("dataset", "cifar100"),
        ("dataset", "svhn"),
        ("dataset", "celeba"),
        ("dataset", "celeba-attributes"),
        ("dataset", "voc-segmentation"),
        ("dataset", "voc-detection"),
        ("dataset", "coco-detection"),
        ("dataset", "torchvision"),
        ("dataset", "image-folder"),
        ("model", "resnet18"),
        ("model", "resnet50"),
        ("model", "vgg16"),
        ("model", "vgg13"),
        ("model", "alexnet"),
        ("model", "deeplabv3-resnet50"),
        ("model", "ssdlite320-mobilenet-v3-large"),
        ("model", "fasterrcnn-resnet50-fpn"),
        ("model", "torchvision-model"),
    ]
    assert plugin.UNLEARNBENCH_API == 1


def test_every_target_exists_and_carries_the_name_of_its_spec() -> None:
    for spec in SPECS:
        module, _, name = spec.target.partition(":")
        target = getattr(importlib.import_module(module), name)
        assert issubclass(target, Component)
        component = target(spec.params())
        if spec.name == "image-folder":  # of the user's own
            assert not isinstance(component, Fetches)
        elif spec.kind == "dataset":
            assert isinstance(component, Fetches)
            assert component.name == spec.name
        else:
            assert callable(component.build)


def test_every_parameter_is_described_and_every_spec_is_json() -> None:
    for spec in SPECS:
        assert all(field.param.help for field in param_fields(spec.params))
        assert json.loads(json.dumps(spec.to_json()))["name"] == spec.name


def test_the_light_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, unlearnbench_torchvision.plugin as p; p.unlearnbench_datasets(); p.unlearnbench_models();"
        "print(*{'torch', 'torchvision', 'numpy', 'PIL', 'scipy', 'pydantic'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
