"""PRUNE: a patch redirects what is to be forgotten, and a certificate says where it is proved to.

Source: Li, Wang, Yuan, Zhang, "PRUNE: A patching based repair framework for certifiable and privacy-robust unlearning
of neural networks", Neural Networks 201 (2026). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import torch
from torch import nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Component, Finding, Result, Task, UnlearnJob, VerifyJob, ref_of
from unlearnbench_prune.certificate import GLOBAL
from unlearnbench_prune.forgetting import Request, forget_class, forget_rows, lower_class
from unlearnbench_prune.issuing import issue
from unlearnbench_prune.network import read_network, traced, why_not
from unlearnbench_prune.parts import Box
from unlearnbench_prune.plugin import ClassParams, PlaceParams, PruneParams
from unlearnbench_prune.standing import Standing
from unlearnbench_prune.survey import ROWS, Survey, region_bytes
from unlearnbench_prune.verify import findings


class Prune(Component[PruneParams]):
    """M_U(x) = M_D(x) + c_S(x): the network stays as it is, and patches act in the regions of forgotten rows."""

    def check(self, model: nn.Module, task: Task) -> str | None:
        """Behind ``split_at`` everything must be piecewise linear; a hash that hides regions has no use for centres."""
        if self.p.gate == "committed" and self.p.radius != "whole":
            return "gate=committed hides the region, and a radius would give the row itself away"
        refuse_no_place(self.p)
        return refusal(model, self.p)

    def unlearn(self, job: UnlearnJob) -> Result:
        """Patch what is asked for, prove it, and have every proof checked by the verifier that strangers use."""
        request = started(job, self.p)
        standing, warnings = forget_rows(request)
        return issue(job, self.p, request.survey, standing, "samples", warnings)

    def verify(self, job: VerifyJob) -> Iterable[Finding]:
        """Work out every certificate of a stream again."""
        return findings(job, self.p)


class PruneClass(Component[ClassParams]):
    """The rows of a class and what is like them: one patch under wide support nets, or a filter on the outputs."""

    def check(self, model: nn.Module, task: Task) -> str | None:
        """Behind ``split_at`` everything must be piecewise linear, and its regions of a size to work with."""
        refuse_no_place(self.p)
        return refusal(model, self.p)

    def unlearn(self, job: UnlearnJob) -> Result:
        """The same as for rows, with one patch for all."""
        p = self._for_rows()
        request = started(job, p)
        if self.p.form == "global":
            standing, warnings = lower_class(request, self.p)
            return issue(job, p, request.survey, standing, GLOBAL, warnings)
        standing, warnings = forget_class(request, self.p)
        return issue(job, p, request.survey, standing, "class-support", warnings)

    def verify(self, job: VerifyJob) -> Iterable[Finding]:
        """Work out every certificate of a stream again."""
        return findings(job, self._for_rows())

    def _for_rows(self) -> PruneParams:
        """The parameters as those of rows."""
        shared = {field.name: getattr(self.p, field.name) for field in fields(PlaceParams)}
        return PruneParams(**shared, gate="support", multi="paper" if self.p.map == "representative" else "certified")


def refuse_no_place(p: PlaceParams) -> None:
    """Refuse parameters that leave no place to make a claim about.

    Raises:
        UsageError: bad-parameter
    """
    if not isinstance(p.radius, str) and not p.radius > 0:
        raise UsageError("bad-parameter", f"{p.radius:g} is not above 0", where="prune.radius",
                         hint="give a number above 0, auto or whole")  # fmt: skip
    if p.low is not None and p.high is not None and p.low >= p.high:
        raise UsageError("bad-parameter", f"the box from {p.low:g} to {p.high:g} holds nothing",
                         where="prune.low, prune.high", hint="give the lower end as low")  # fmt: skip


def refusal(model: nn.Module, p: PlaceParams) -> str | None:
    """Why a network cannot be patched: what is not piecewise linear, or regions that are too large."""
    inputs = ref_of(model).inputs
    reason = why_not(model, p.split_at, inputs)
    if reason is not None:
        return reason
    network = read_network(model, inputs, p.split_at)
    size = region_bytes(network) / 1e6
    if size <= p.region_mb:
        return None
    return (
        f"a linear region of it has {network.rows:,} inequalities in {network.features:,} features, {size:,.0f} MB; "
        "split_at names a later module, where regions are small, and region_mb allows more"
    )


def started(job: UnlearnJob, p: PruneParams) -> Request:
    """A request at work on the network without patches; before the first, the box is settled."""
    standing = Standing.of(job, p)
    box = standing.box or _box(job, p)
    survey = Survey.of(standing.base, ref_of(standing.base).inputs, p.split_at, box)
    return Request(job, p, survey, replace(standing, box=box))


def _box(job: UnlearnJob, p: PruneParams) -> Box:
    """The declared box; what is left out of it is that of the training rows."""
    if p.low is not None and p.high is not None:
        return Box(p.low, p.high)
    trace = traced(job.model, p.split_at)
    ends = []
    with torch.no_grad():
        for view in (job.forget, job.retain):
            for x, *_ in view.batches(ROWS):
                features = trace(x)[1]
                ends.append((float(features.min()), float(features.max())))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return Box(low if p.low is None else p.low, high if p.high is None else p.high)
