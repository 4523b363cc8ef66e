"""Shokri's attack: networks that learn from shadow models how outputs for seen and unseen rows differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from unlearnbench.api.runtime import Component, Ensemble, Evidence, Reading, Shadows, order_by_id, rows_of, status_of
from unlearnbench_membership.networks import AttackNetworks, attack_networks
from unlearnbench_membership.plugin import ShokriParams
from unlearnbench_membership.readings import array, curve_readings, undefined_curve
from unlearnbench_membership.roc import CURVE


class Shokri(Component[ShokriParams]):
    """Attack networks trained on the shadows' originals judge the subject's outputs.

    Members are the forget set, non-members the rows of the hold-out that the shadows audit. Intervals are stratified
    bootstraps over those rows; the trained networks are taken as given.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        return (Ensemble(kind="shadows", originals=self.p.shadows),)

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, holdout = rows_of(evidence, "forget"), rows_of(evidence, "holdout")
        status = status_of(forget, holdout)
        if status == "ok":
            shadows = evidence.shadows(self.p.shadows)
            holdout = holdout.at(torch.isin(holdout.ids, shadows.ids[~shadows.forgotten]).nonzero()[:, 0])
            status = "ok" if bool(shadows.outputs("original").isfinite().all()) else "non-finite"
        n = len(forget) + len(holdout)
        if status != "ok":
            yield Reading("shokri-own-networks", None, n, unit="classes", status=status)
            yield from undefined_curve("shokri", CURVE, n, status)
            return
        networks = trained_on(shadows, self.p.least_rows, evidence)
        yield Reading("shokri-own-networks", networks.own, n, unit="classes")
        members, others = (array(networks.logit(rows.outputs, rows.y)) for rows in (forget, holdout))
        yield from curve_readings("shokri", members, others, CURVE, evidence.rng("bootstrap"))


def trained_on(shadows: Shadows, least: int, evidence: Evidence) -> AttackNetworks:
    """Networks for what all shadows put out for the audit rows, in the order of shadows and ids."""
    order = order_by_id(shadows.ids, shadows.y)
    outputs = shadows.outputs("original")[:, order].double()
    y = shadows.y[order].repeat(len(shadows))
    members = shadows.members[:, order].flatten()
    return attack_networks(outputs.flatten(0, 1), y, members, least, evidence.rng("networks"))
