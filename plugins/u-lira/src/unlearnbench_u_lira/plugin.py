"""What the audits declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, hookimpl

UNLEARNBENCH_API = 1


@dataclass(frozen=True)
class ShadowParams:
    """What both audits have in common."""

    shadows: Annotated[int, Param("Shadow models, an even number: each row is seen by half of them.", ge=6)] = 16
    pseudo_observations: Annotated[
        float, Param("Observations that the variance pooled over rows counts for in the variance of a row.", gt=0)
    ] = 4.0
    bootstrap_draws: Annotated[int, Param("Draws of rows behind the intervals.", ge=100)] = 1000


@dataclass(frozen=True)
class ULiraParams(ShadowParams):
    """The attack of Hayes et al."""

    reference: Annotated[
        Literal["never-members", "golds"],
        Param(
            "What models that unlearned a row are told from: models of the same ensemble that never saw it "
            "(never-members), or gold models of other seeds (golds), which show damage to the model as well."
        ),
    ] = "never-members"
    permutations: Annotated[int, Param("Draws of the null in which membership is swapped.", ge=20)] = 100


@dataclass(frozen=True)
class VulnerableParams(ShadowParams):
    """The same attack on the rows that training exposes most."""

    share: Annotated[float, Param("Share of the audit rows that counts as vulnerable, rounded up.", gt=0, lt=1)] = 0.25


SHADOW_DEVIATION = (
    "Shadow models come in pairs that train on the retain set and on complementary halves of the audit rows (the "
    "forget set and as many unseen rows), and forget all of their half at once."
)
U_LIRA = Paper(
    title="Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy",
    authors=("Jamie Hayes", "Ilia Shumailov", "Eleni Triantafillou", "Amr Khalifa", "Nicolas Papernot"),
    year=2025,
    venue="IEEE Conference on Secure and Trustworthy Machine Learning (SaTML)",
    doi="10.1109/SaTML64287.2025.00034",
    arxiv="2403.01218",
    bibtex="""@inproceedings{hayes2025inexact,
  title     = {Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy},
  author    = {Hayes, Jamie and Shumailov, Ilia and Triantafillou, Eleni and Khalifa, Amr and Papernot, Nicolas},
  booktitle = {IEEE Conference on Secure and Trustworthy Machine Learning (SaTML)},
  year      = {2025},
  doi       = {10.1109/SaTML64287.2025.00034},
}""",
    deviations=(
        SHADOW_DEVIATION,
        "Every shadow model is a target in turn, scored by fits from all others except the one trained on the "
        "complementary half; the scores of all targets are pooled.",
        "The variance of a row is shrunk to the variance pooled over rows, because few shadow models leave few values "
        "per row.",
        "The score is the logarithm of the likelihood ratio, which orders as the paper's N_u / (N_u + N_r) does; its "
        "threshold 0 is the paper's 1/2.",
        "Intervals and the permutation null are additions.",
    ),
)
RULI = Paper(
    title="Rectifying Privacy and Efficacy Measurements in Machine Unlearning: A New Inference Attack Perspective",
    authors=(
        "Nima Naderloui",
        "Shenao Yan",
        "Binghui Wang",
        "Jie Fu",
        "Wendy Hui Wang",
        "Weiran Liu",
        "Yuan Hong",
    ),
    year=2025,
    venue="USENIX Security Symposium",
    arxiv="2506.13009",
    bibtex="""@inproceedings{naderloui2025rectifying,
  title     = {Rectifying Privacy and Efficacy Measurements in Machine Unlearning: A New Inference Attack Perspective},
  author    = {Naderloui, Nima and Yan, Shenao and Wang, Binghui and Fu, Jie and Wang, Wendy Hui and Liu, Weiran and
               Hong, Yuan},
  booktitle = {34th USENIX Security Symposium},
  year      = {2025},
}""",
    deviations=(
        SHADOW_DEVIATION,
        "Vulnerable rows are the share with the largest distance, in pooled standard deviations, between original "
        "models that saw a row and original models that did not; the official code picks them by a likelihood ratio "
        "attack at a low rate of false positives, with models trained for that alone.",
        "A pair of models is scored on rows that were picked without that pair, so that chance does not choose rows on "
        "which it then counts.",
        "Densities are Gaussians with shrunk variances, as in u-lira; the official code uses kernel density estimates.",
        "Only leakage of membership is measured; the paper's efficacy objective, unlearned against retrained models, "
        "is u-lira with reference=golds.",
    ),
)


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """Both need an ensemble of shadow models, the same one."""
    auc = "AUC of the likelihood ratio: can a row that was learned and forgotten be told from one never seen"
    return [
        MeasureSpec(
            name="u-lira",
            summary="Likelihood ratio attack per sample (U-LiRA) on shadow models that learned and forgot.",
            target="unlearnbench_u_lira.measures:ULira",
            params=ULiraParams,
            paper=U_LIRA,
            reads=("siblings",),
            readings=(
                ReadingSpec(name="u-lira-auc", better="gold", summary=f"{auc}; 0.5 is the aim."),
                ReadingSpec(name="u-lira-accuracy", better="gold", summary="Accuracy of the sign of the log ratio."),
                ReadingSpec(
                    name="u-lira-tpr", better="gold", summary="Share of forgotten rows found at a false positive rate."
                ),
                ReadingSpec(
                    name="u-lira-uncalibrated-auc",
                    better="gold",
                    summary="AUC of the log-odds themselves on the same models: what a threshold for all rows sees.",
                ),
                ReadingSpec(
                    name="u-lira-null-auc",
                    better="gold",
                    summary="Mean AUC after membership was swapped at random, with its 95 % range.",
                ),
                ReadingSpec(
                    name="u-lira-p-value", better="higher", summary="Two-sided permutation p-value of the AUC."
                ),
            ),
            effort="ensemble",
        ),
        MeasureSpec(
            name="vulnerable-samples",
            summary="U-LiRA on the rows that training exposes most, and on the others, after RULI.",
            target="unlearnbench_u_lira.measures:VulnerableSamples",
            params=VulnerableParams,
            paper=RULI,
            reads=("siblings",),
            readings=(
                ReadingSpec(name="vulnerable-auc", better="gold", summary=f"{auc}, in one group of rows."),
                ReadingSpec(
                    name="vulnerable-tpr",
                    better="gold",
                    summary="Share of forgotten rows found at a false positive rate.",
                ),
            ),
            effort="ensemble",
        ),
    ]
