"""The published architectures, one file a paper, built from plain torch modules.

A constructor has the name of its net and stands here: `studylib.nets.resnet50()`. Where a file has the name of its
net, that name is the constructor, and the file's other contents are had by `from studylib.nets.googlenet import ROWS`.
Under `with torch.device("meta"):` a constructor allocates no memory.
"""

from studylib.nets.alexnet import alexnet
from studylib.nets.capsnet import capsnet
from studylib.nets.deeplab import deeplabv3
from studylib.nets.densenet import densenet121, densenet161, densenet169, densenet201, densenet264, densenet_cifar
from studylib.nets.efficientnet_lite import efficientnet_lite0
from studylib.nets.fractalnet import fractalnet
from studylib.nets.googlenet import googlenet
from studylib.nets.igcv1 import igc_cifar, igc_imagenet, regular_cifar, regular_imagenet
from studylib.nets.lenet import lenet5, lenet_300_100
from studylib.nets.mobilenet import mobilenet_v1
from studylib.nets.mobilenet_v2 import mobilenet_v2, mobilenet_v2_deeplab, mobilenet_v2_ssdlite
from studylib.nets.pspnet import pspnet
from studylib.nets.resnet import resnet50, resnet101, resnet152
from studylib.nets.resnext import resnext, resnext29_cifar, resnext50_32x4d, resnext101_32x4d, resnext101_64x4d
from studylib.nets.senet import se_resnet50, se_resnet101, se_resnet152, se_resnext50_32x4d
from studylib.nets.shiftresnet import (
    resnet20_cifar,
    resnet56_cifar,
    resnet110_cifar,
    shift_resnet20,
    shift_resnet56,
    shift_resnet110,
)
from studylib.nets.shufflenet import shufflenet
from studylib.nets.vgg import vgg16
from studylib.nets.xception import xception
from studylib.nets.xnets import x_densenet, x_mobilenet
from studylib.nets.xnor import xnor_lenet

__all__ = [
    "alexnet",
    "capsnet",
    "deeplabv3",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "densenet264",
    "densenet_cifar",
    "efficientnet_lite0",
    "fractalnet",
    "googlenet",
    "igc_cifar",
    "igc_imagenet",
    "lenet5",
    "lenet_300_100",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v2_deeplab",
    "mobilenet_v2_ssdlite",
    "pspnet",
    "regular_cifar",
    "regular_imagenet",
    "resnet20_cifar",
    "resnet50",
    "resnet56_cifar",
    "resnet101",
    "resnet110_cifar",
    "resnet152",
    "resnext",
    "resnext29_cifar",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_64x4d",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "shift_resnet20",
    "shift_resnet56",
    "shift_resnet110",
    "shufflenet",
    "vgg16",
    "x_densenet",
    "x_mobilenet",
    "xception",
    "xnor_lenet",
]
