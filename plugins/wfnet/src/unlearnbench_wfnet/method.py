"""WF-Net: one untraining learns a row of gates for every class; forgetting a class is choosing its row.

Source: Poppi et al., "Multi-Class Unlearning for Image Classification via Weight Filtering", IEEE Intelligent Systems
2024 (arXiv 2304.02049). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Component, MultiLabel, PrepareJob, Result, State, Task, UnlearnJob, finish, ref_of
from unlearnbench_wfnet.artifact import describe
from unlearnbench_wfnet.contents import layers_of
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.plugin import WfNetParams
from unlearnbench_wfnet.targets import Target, find_targets, gate_bytes, without_targets
from unlearnbench_wfnet.untraining import NON_FINITE, untrain

ENDINGS = {NON_FINITE: "untraining ended when its loss was no finite number; the best gates until then are used"}


class WfNet(Component[WfNetParams]):
    """W' = sigmoid(alpha[c]) * W forgets class c; all rows of alpha are learned in one preparation."""

    def check(self, model: nn.Module, task: Task) -> str | None:
        """Without gated layers nothing can be filtered; too many classes would not fit into memory."""
        classes, targets = ref_of(model).outputs, self._targets(model)
        if not targets:
            return without_targets(self.p.layers)
        if classes < 2 and not isinstance(task, MultiLabel):
            return "of one class there is no other, under whose gates it is to be retained"
        if classes > self.p.most_classes:
            size = gate_bytes(targets, classes) / 1000
            return f"gates of {classes} classes take {size:,.1f} kB; --set wfnet.most_classes={classes} allows it"
        with torch.no_grad():  # shapes alone: are the samples of a batch still apart in every gated layer?
            rows = torch.arange(2, device="cpu") % classes
            WFNet(model, targets, classes)(torch.empty(2, *ref_of(model).inputs, device="meta"), rows)
        return None

    def prepare(self, job: PrepareJob) -> State:
        net = WFNet(
            job.model, self._targets(job.model), len(job.data.outputs), init=self.p.init, mask_bn=self.p.mask_bn
        )
        course = untrain(net, job, self.p, self._forget_weight(net.targets))
        names = [field.name for field in dataclasses.fields(self.p) if field.name != "harden"]
        parameters = {name: getattr(self.p, name) for name in names}
        found = describe(net, job.data.outputs, rows=(), harden=0.0, parameters=parameters, log=course.log)
        told = {name: value for name, value in found.items() if not isinstance(value, Tensor)}
        return State(tensors=net.tensors(), meta={**told, "start": course.start, "ended": course.ended})

    def unlearn(self, job: UnlearnJob) -> Result:
        meta = job.state.meta
        new = [row for row in (*job.request.classes, *job.request.targets) if row not in meta["rows"]]
        net = WFNet(job.model, layers_of(meta), len(meta["classes"]), mask_bn=meta["mask_bn"])
        if new:  # the model is under the rows of earlier requests already
            baked = net.load_tensors(job.state.tensors).bake(new, self.p.harden)
            job.model.load_state_dict(baked.state_dict())
        meta["rows"] += new
        meta["harden"] = self.p.harden
        warning = ENDINGS.get(meta["ended"])
        return Result(
            model=finish(job.model),
            state=job.state,
            artifacts={**job.state.tensors, **meta},
            warnings=(warning,) if warning else (),
        )

    def _targets(self, model: nn.Module) -> tuple[Target, ...]:
        return find_targets(model, ref_of(model).inputs, layers=self.p.layers, modules=self.p.modules)

    def _forget_weight(self, targets: tuple[Target, ...]) -> float:
        if self.p.forget_weight is not None:
            return self.p.forget_weight
        return 10.0 if all(target.kind == "convolution" for target in targets) else 100.0
