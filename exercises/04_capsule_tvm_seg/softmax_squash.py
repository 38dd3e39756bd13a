"""Squash a capsule's vector and share it out to its parents: two reductions by shuffles.

    coupling[i, j] = exp(logits[i, j]) / (sum over j of exp(logits[i, j]))
    u[i, d] = |s[i]| / (1 + |s[i]|^2) * s[i, d]

logits: float32 (n, parents), at most 32 parents. s: float32 (n, dim), dim at most 32. coupling: float32 (n, parents). u: float32
(n, dim). One warp, one capsule i; a block has 4 warps. (Sabour, Frosst, Hinton 2017, Eq. 1, whose |s|^2 / (1 + |s|^2) * s / |s|
is written here without the division by |s|, and Eq. 3.)

Difficulty: 3 of 5
Minutes: 25

Plan:
1. Which warp of the whole grid is this, and which lane of it am I? The warp's number is the capsule.
2. Each lane reads one logit. Lanes without a parent take part in the shuffles with a value that changes nothing.
3. The greatest logit of the row, by `cuda.shfl_xor_sync` with 16, 8, 4, 2, 1. Subtract it: exp of a large number overflows.
4. The sum of the exponentials in the same way; divide and write.
5. The squared length of s[i] in the same way; scale and write.

Hints:
`study hint softmax_squash` shows 3, one at a time.

Budget: two global reads and two global writes a thread, at most 2 sectors a request for 16 parents and 8 dimensions.

Hardware: The sum runs over the PARENTS: what one capsule has to give adds up to 1. With one row a warp the reduction needs no shared
memory and no barrier, only registers that the lanes show each other. With 8 dimensions 24 lanes idle in the second half; that is
the price of one simple rule, and small beside the reading.
"""

import math
from math import ceil

from numba import cuda, float32

BLOCK = 128
WARP = 32
LOWEST = -3e38


@cuda.jit
def softmax_squash(logits, s, coupling, u):
    raise NotImplementedError("week 4, softmax_squash: write the kernel here")


def launch(kernel, logits, s, coupling, u):
    kernel[ceil(len(logits) * WARP / BLOCK), BLOCK](logits, s, coupling, u)


# made from the solved exercise: 0bc314bbfcf3
