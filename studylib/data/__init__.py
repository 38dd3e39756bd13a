"""Real images as tensors: scikit-learn's digits, MNIST, and pairs of digits; fetched once, checked at every load.

    python -m studylib.data --root data      fetches MNIST (about 12 MB) and says what it does

After that nothing here touches the network.
"""

from studylib.data.fetch import DataUnavailable
from studylib.data.images import Dataset, digits, mnist, mnist_or_digits, same_different

__all__ = ["DataUnavailable", "Dataset", "digits", "mnist", "mnist_or_digits", "same_different"]
