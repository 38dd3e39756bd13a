"""Real images as tensors: scikit-learn's digits, MNIST, pairs of digits, photographs; fetched once, checked at every load.

    python -m studylib.data --root data      fetches MNIST, photographs and a net's weights (31 MB) and says what it does

After that nothing here touches the network, but for `cifar10`, which only FAST = False asks for.
"""

from studylib.data.fetch import DataUnavailable
from studylib.data.images import Dataset, cifar10, digits, mnist, mnist_or_digits, photographs, same_different

__all__ = [
    "DataUnavailable",
    "Dataset",
    "cifar10",
    "digits",
    "mnist",
    "mnist_or_digits",
    "photographs",
    "same_different",
]
