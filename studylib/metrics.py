"""How good a segmentation is: the confusion of classes, intersection over union, and its mean."""

import torch
from torch import Tensor


def confusion(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """How many pixels of each class were predicted as each: int64 (classes, classes), rows target, columns predicted.

    predicted, target: integers of one shape, 0 to classes - 1. Matrices of batches may be added.
    Raises ValueError for other shapes or classes.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"expected maps of one shape, got {tuple(predicted.shape)} and {tuple(target.shape)}")
    for name, values in (("predicted", predicted), ("target", target)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(f"{name} has classes {values.min()} to {values.max()}, expected 0 to {classes - 1}")
    pairs = target.flatten().long() * classes + predicted.flatten().long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, float64 (classes,): right pixels over those of target or prediction.

    matrix: as from `confusion`. A class that neither target nor prediction has is nan: 0 of 0 says nothing.
    """
    right = matrix.diagonal().double()
    return right / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())


def mean_iou(matrix: Tensor) -> float:
    """mIoU: the mean of `iou` over the classes that target or prediction has, background included.

    A class that is predicted and is nowhere in the target counts, with 0; one that is in neither is left out. Summed
    over a data set first (one matrix for all), as the Pascal VOC benchmark does, and not averaged over images.
    Raises ValueError for a matrix of no pixels.
    """
    if not matrix.any():
        raise ValueError("no pixels: the mean over no class is not defined")
    return float(iou(matrix).nanmean())
