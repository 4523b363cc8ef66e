"""Declarations of the readings of ``per-target``."""

from __future__ import annotations

from unlearnbench.api import ReadingSpec

PER_TARGET = (
    ReadingSpec(name="target-recall", better="by-target", summary="Share of what shows the target that is found."),
    ReadingSpec(name="target-accuracy", better="by-target", summary="Share of a label's cells judged rightly."),
    ReadingSpec(name="target-balanced-accuracy", better="by-target", summary="Mean recall of a label and of its lack."),
    ReadingSpec(name="target-auc", better="by-target", summary="How well the label's output ranks: no threshold."),
    ReadingSpec(
        name="target-recalibrated-recall",
        better="by-target",
        summary="Recall at the threshold that has the best balanced accuracy on validation rows.",
    ),
    ReadingSpec(
        name="target-recalibrated-balanced-accuracy",
        better="by-target",
        summary="Balanced accuracy at the threshold that has the best one on validation rows.",
    ),
    ReadingSpec(name="target-iou", better="by-target", summary="Intersection over union of a class's pixels."),
    ReadingSpec(name="target-predicted-pixels", better="gold", summary="Share of the pixels taken for the class."),
    ReadingSpec(name="target-true-pixels", better="gold", summary="Share of the pixels that are of the class."),
    ReadingSpec(name="target-ap50", better="by-target", summary="Average precision of a class at IoU .5."),
    ReadingSpec(name="all-targets-map", better="gold", summary="COCO's mean average precision, forgotten included."),
    ReadingSpec(name="forgotten-recall", better="gold", summary="Largest recall of a forgotten target."),
    ReadingSpec(name="forgotten-auc", better="gold", summary="Largest AUC of a forgotten label."),
    ReadingSpec(
        name="forgotten-recalibrated-recall",
        better="gold",
        summary="Largest recall of a forgotten label at the threshold that serves best on validation rows.",
    ),
    ReadingSpec(name="forgotten-iou", better="gold", summary="Largest IoU of a forgotten target."),
    ReadingSpec(name="forgotten-ap50", better="gold", summary="Largest average precision of a forgotten target."),
    ReadingSpec(name="others-recall", better="higher", summary="Smallest recall of the other targets."),
    ReadingSpec(name="others-mean-recall", better="higher", summary="Their mean recall."),
    ReadingSpec(name="others-balanced-accuracy", better="higher", summary="Smallest balanced accuracy of the others."),
    ReadingSpec(name="others-mean-balanced-accuracy", better="higher", summary="Their mean balanced accuracy."),
    ReadingSpec(name="others-relative-iou", better="higher", summary="Smallest IoU of the others over the original's."),
    ReadingSpec(name="others-mean-relative-iou", better="higher", summary="Their mean IoU over the original's."),
    ReadingSpec(name="others-ap50-drop", better="lower", summary="Largest loss of the others' average precision."),
    ReadingSpec(name="others-mean-ap50-drop", better="lower", summary="Their mean loss of average precision."),
    ReadingSpec(
        name="only-the-bias-moved",
        better="lower",
        summary="Share of the forgotten labels that are no longer found, and yet known: 1 means that the model stopped "
        "saying them, and one shifted threshold brings them all back.",
    ),
)
