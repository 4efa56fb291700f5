"""Two results -> a row of the table: do all tensors agree, and how far apart are they at most?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

TOLERANCE = 1e-4  # of float tensors, absolute; integers agree exactly
SMALL = 0.1  # a tensor below this, such as most gradients, must agree ten times as well


class Row(NamedTuple):
    what: str
    compared: str  # how many tensors, which kinds
    largest: float  # magnitude of what was compared: a difference means nothing without it
    difference: float  # at most, over all float tensors
    passed: bool
    remark: str = ""  # what failed


def compare(
    what: str,
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    tolerance: float = TOLERANCE,
) -> Row:
    """Every name on their side must be on ours, with its shape, its kind of number and its values.

    More on our side is no fault. A tensor that is not finite fails, and so does a comparison in
    which all floats are zero, because it shows nothing.
    """
    faults: list[str] = []
    floats = [tensor for tensor in theirs.values() if tensor.is_floating_point()]
    largest = max((float(tensor.abs().max()) for tensor in floats if tensor.numel()), default=0.0)
    difference = 0.0
    for name, expected in theirs.items():
        if name not in ours:
            faults.append(f"{name} is missing")
            continue
        found = ours[name].detach()
        if found.shape != expected.shape:
            faults.append(f"{name} has shape {_shape(found)}, not {_shape(expected)}")
        elif found.is_floating_point() != expected.is_floating_point():
            faults.append(f"{name} is {found.dtype}, not {expected.dtype}")
        elif not expected.is_floating_point():
            differing = int((found != expected).sum())
            if differing:
                faults.append(f"{differing} of {expected.numel()} entries of {name} differ")
        elif expected.numel():
            apart = float((found.double() - expected.double()).abs().max())
            allowed = tolerance if float(expected.abs().max()) > SMALL else tolerance * SMALL
            if not apart <= allowed:  # nan is no agreement
                faults.append(f"{name} differs by {apart:.2g}")
            difference = max(difference, apart)
    if not theirs or (floats and largest == 0.0):
        faults.append("nothing but zeros was compared")
    counts = f"{len(floats)} float, {len(theirs) - len(floats)} int"
    return Row(what, counts, largest, difference, not faults, _listed(faults))


def failure(what: str, error: BaseException) -> Row:
    """The row of a comparison that could not be made."""
    last = (str(error).strip().splitlines() or [""])[-1]
    return Row(what, "-", 0.0, float("nan"), False, f"{type(error).__name__}: {last}")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(faults: list[str], shown: int = 3) -> str:
    more = [f"and {len(faults) - shown} more"] if len(faults) > shown else []
    return "; ".join(faults[:shown] + more)
