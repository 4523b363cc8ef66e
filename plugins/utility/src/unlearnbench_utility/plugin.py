"""What the plugin declares: nine measures and their readings. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import MeasureSpec, Param, ReadingSpec, hookimpl
from unlearnbench_utility import papers

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "weight-distance": {"names-its-paper": "it is the norm of a difference, which no paper introduced"},
}


@dataclass(frozen=True)
class SklearnParams:
    """Which metrics on which splits."""

    metrics: Annotated[
        tuple[str, ...],
        Param("Metrics as name@split, by scikit-learn's scorer names; without @split, on the test rows.", min_length=1),
    ] = ("f1_macro@test", "balanced_accuracy@test", "matthews_corrcoef@test", "f1_macro@retain")


@dataclass(frozen=True)
class CalibrationParams:
    """How the expected calibration error is computed."""

    bins: Annotated[int, Param("Bins of equal width between 0 and 1 for the confidence.", ge=1)] = 15


@dataclass(frozen=True)
class WeightDistanceParams:
    """What is told besides the global distances."""

    by_layer: Annotated[bool, Param("Whether the distances of each layer are told as well.")] = False


@dataclass(frozen=True)
class ProbeParams:
    """How the probe is trained."""

    rows: Annotated[int, Param("Most retain rows that the probe is trained on, drawn by id.", ge=10)] = 2000
    folds: Annotated[int, Param("Parts of the forget set; each is read by a probe trained without it.", ge=2)] = 5
    c: Annotated[float, Param("Inverse strength of the probe's L2 penalty.", gt=0)] = 1.0


@dataclass(frozen=True)
class CkaParams:
    """How much is compared."""

    rows: Annotated[int, Param("Most forget rows that are compared, drawn by id.", ge=2)] = 2000


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="sklearn",
            summary="Classification metrics of scikit-learn by name on any split, as in sklearn:f1_macro@test.",
            target="unlearnbench_utility.sklearn_metrics:SklearnMetrics",
            params=SklearnParams,
            paper=papers.SKLEARN,
            readings=(
                ReadingSpec(name="log_loss", better="by-split-lower", summary="neg_log_loss without the sign."),
                ReadingSpec(name="brier_score", better="by-split-lower", summary="neg_brier_score without the sign."),
                ReadingSpec(
                    name="negative_likelihood_ratio",
                    better="by-split-lower",
                    summary="neg_negative_likelihood_ratio without the sign.",
                ),
                ReadingSpec(name="*", better="by-split", summary="The metric of that name."),
            ),
            shorthand="metrics",
        ),
        MeasureSpec(
            name="calibration",
            summary="Expected calibration error, Brier score and negative log-likelihood on every split.",
            target="unlearnbench_utility.calibration:Calibration",
            params=CalibrationParams,
            paper=papers.CALIBRATION,
            readings=(
                ReadingSpec(
                    name="ece", better="by-split-lower", summary="Mean distance between confidence and accuracy by bin."
                ),
                ReadingSpec(
                    name="brier", better="by-split-lower", summary="Mean squared distance to the one-hot label, 0 to 2."
                ),
                ReadingSpec(
                    name="nll",
                    better="by-split-lower",
                    unit="nats",
                    summary="Mean negative log-probability of the label.",
                ),
            ),
        ),
        MeasureSpec(
            name="completeness",
            summary="Share of rows that get the same class as from the gold model, on every split.",
            target="unlearnbench_utility.agreement:Completeness",
            paper=papers.COMPLETENESS,
            reads=("gold",),
            readings=(ReadingSpec(name="completeness", better="higher", summary="Share of equal predictions."),),
        ),
        MeasureSpec(
            name="weight-distance",
            summary="Relative L2 distance of all weights together to the original's and to gold's.",
            target="unlearnbench_utility.agreement:WeightDistance",
            params=WeightDistanceParams,
            reads=("original", "gold"),
            readings=(
                ReadingSpec(
                    name="distance-to-original", better="gold", summary="Norm of the difference by the original's norm."
                ),
                ReadingSpec(name="distance-to-gold", better="lower", summary="Norm of the difference by gold's norm."),
            ),
        ),
        MeasureSpec(
            name="tow",
            summary="Tug of war: how near forget, retain and test accuracy (or an attack) are to gold's, multiplied.",
            target="unlearnbench_utility.scores:TugOfWar",
            paper=papers.TOW,
            reads=("gold",),
            readings=(
                ReadingSpec(name="tow", better="higher", summary="1 where all three accuracies are gold's."),
                ReadingSpec(name="tow-mia", better="higher", summary="The same with the attack for forget accuracy."),
                ReadingSpec(
                    name="threshold-mia",
                    better="gold",
                    summary="Share of the forget set that a threshold on the confidence takes for non-members.",
                ),
            ),
        ),
        MeasureSpec(
            name="aus",
            summary="Adaptive unlearning score: test accuracy kept against forgetting, by the form for the request.",
            target="unlearnbench_utility.scores:AdaptiveUnlearningScore",
            paper=papers.AUS,
            reads=("original",),
            readings=(ReadingSpec(name="aus", better="higher", summary="Above 1 only where test accuracy grew."),),
        ),
        MeasureSpec(
            name="nomus",
            summary="Normalised machine unlearning score: half test accuracy, half how blind a loss attack is.",
            target="unlearnbench_utility.scores:Nomus",
            paper=papers.NOMUS,
            readings=(
                ReadingSpec(name="nomus", better="higher", summary="From 0 to 1."),
                ReadingSpec(
                    name="loss-mia", better="gold", summary="Accuracy of the attack: forget set against hold-out."
                ),
            ),
        ),
        MeasureSpec(
            name="linear-probe",
            summary="Whether a linear classifier reads the labels of forgotten rows off the last features.",
            target="unlearnbench_utility.features:LinearProbe",
            params=ProbeParams,
            paper=papers.PROBE,
            readings=(
                ReadingSpec(
                    name="probe-accuracy",
                    better="gold",
                    summary="Accuracy of the probe on forget and hold-out rows that it was not trained on.",
                ),
            ),
            effort="models",
        ),
        MeasureSpec(
            name="cka",
            summary="Linear CKA of the features of the forget set with the original's and with gold's.",
            target="unlearnbench_utility.features:Cka",
            params=CkaParams,
            paper=papers.CKA,
            reads=("original", "gold"),
            readings=(
                ReadingSpec(name="cka-to-original", better="gold", summary="Similarity to the original's features."),
                ReadingSpec(name="cka-to-gold", better="higher", summary="Similarity to gold's features."),
            ),
            effort="models",
        ),
    ]
