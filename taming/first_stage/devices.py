"""Numbers that all devices of a training share: sums, means, what the first of them has.

Every process must ask, at the same point. Without other processes a value stands for itself.
"""

import torch.distributed as dist
from torch import Tensor


def sum_over_devices(values: Tensor) -> Tensor:
    """The sum of what every device has; `values` themselves stay as they are."""
    if is_spread():
        values = values.clone()
        dist.all_reduce(values)
    return values


def mean_over_devices(values: Tensor) -> Tensor:
    """The mean of what every device has."""
    return sum_over_devices(values) / dist.get_world_size() if is_spread() else values


def from_first_device(values: Tensor) -> Tensor:
    """What the first device has, written into `values`, which are contiguous."""
    if is_spread():
        dist.broadcast(values, 0)
    return values


def is_spread() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized()
