"""What a net costs: parameters, multiply-adds and activation bytes of every layer, and its receptive field.

Conventions, the same for every net:

- A MAC is one multiply-add. Counted are convolutions, matrix products and scaled dot product attention, as they really
  run, at batch 1; products with the zeros of padding are counted too.
- Not counted as MACs, by convention: adding a bias, batch norm (it folds into the convolution before it) and any other
  normalisation, pooling, resizing, activations, and every element-wise product or sum on its own.
- An operation that is in neither list (`studylib.costs.operations`) is unknown: it is named, and never counted as zero.
- `params` has every parameter once, shared ones too; `params_no_bn` leaves out batch norm's scale and shift (MobileNet,
  arXiv 1704.04861); `weights` leaves out everything of less than two dimensions, so norms and biases. Batch norm's
  running statistics are `buffers`.
- `macs_no_fc` leaves out `nn.Linear` (ShuffleNet, arXiv 1707.01083, prints the convolutions' part alone).
- `activation_bytes` is 4 bytes (float32) for each output element of each row: what leaves a layer, once. Sums and
  concatenations between layers have no row and are not in it.
"""

from studylib.costs.counting import count
from studylib.costs.receptive import ReceptiveField, receptive_field
from studylib.costs.table import Costs, Row, Unknown

__all__ = ["Costs", "ReceptiveField", "Row", "Unknown", "count", "receptive_field"]
