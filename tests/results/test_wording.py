"""An epoch as a line: cross-entropy and the method's terms apart, both accuracies."""

from __future__ import annotations

from stdcl.results.wording import describe_epoch, describe_result

ROW = {
    "ce": 1.5,
    "loss": 14.4,
    "loss_spatial": 6.25,
    "loss_temporal": 6.65,
    "own/mmd": 0.5,
    "contrast/active_share": 0.8,
    "train_accuracy": 0.5,
    "accuracy": 0.512,
    "best_accuracy": 0.6,
    "best_epoch": 1,
    "seconds": 12.34,
}


def test_the_total_that_rises_as_anchors_become_active_is_left_out() -> None:
    assert describe_epoch(ROW, "test") == (
        "cross-entropy 1.5000  spatial 6.250  temporal 6.650  mmd 0.500  active 80 %  train 50.0 %  test 51.20 %"
        "  12.3 s"
    )


def test_a_row_without_contrast_and_without_evaluation() -> None:
    assert describe_epoch({"ce": 1.0, "train_accuracy": 0.25}, "test") == "cross-entropy 1.0000  train 25.0 %"
    assert describe_epoch({"accuracy": 0.5}, "validation") == "validation 50.00 %", "a search sees no test set"
    assert describe_epoch({}, "test") == ""


def test_a_result() -> None:
    assert describe_result(ROW) == "accuracy 51.20 %  best (epoch 1) 60.00 %"
    assert describe_result({}) == ""
