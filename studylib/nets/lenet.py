"""LeNet-300-100 and LeNet-5: the two nets on 28x28 digits that pruning and quantization papers compress.

Source: LeCun et al., "Gradient-based learning applied to document recognition" (1998), in the forms that Deep
Compression (arXiv 1510.00149) starts from.
"""

from torch import nn


def lenet_300_100(num_classes: int = 10) -> nn.Sequential:
    """Fully connected 784-300-100-10 with ReLU. Input: (batch, 1, 28, 28) or anything with 784 values an image.

    The weights are 235,200 + 30,000 + 1,000 = 266,200 and the biases 410 (arXiv 1510.00149, Table 2: ip1, ip2, ip3).
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


def lenet5(num_classes: int = 10) -> nn.Sequential:
    """Two 5x5 convolutions and two linear layers. Input: (batch, 1, 28, 28).

    This is Caffe's LeNet (20 and 50 maps, 500 units, its only ReLU after those), the net that the compression papers
    call LeNet-5: 430,500 weights and 580 biases. The net of 1998 has 6 and 16 maps, a partly connected second
    convolution and about 60,000 weights.
    """
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, num_classes),
    )
