"""Linear layers as decoding wants them: a few rows at a time, so that reading weights is the cost.

At one row a matrix product reads every weight once and computes almost nothing: its time is bytes /
bandwidth, if the kernel uses all cores and all of the bandwidth, which the ones for large products
do not. Three forms:

    float32   the module's own weights, no copy; batches get a copy laid out for them
    bf16      16 bits a weight in place of 32: `PackedLinear`, computed in float32
    int8      8 bits a weight and a scale for each output; inputs are rounded to 8 bits on the way

Packing replaces a module's weights, it does not double them. It serves any transformer and knows
none. What a processor has no kernels for is computed as PyTorch does. Inference only.

"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.first_stage.prepared import version_of

Packing = Literal["bf16", "int8"]
Linear = Callable[[Tensor], Tensor]

FEW = 32  # rows up to which reading weights is the cost
ROWS_OF_A_BATCH = 8  # what weights are laid out for where there are several rows


# --- float32: weights as they are ----------------------------------------------------------------


def has_onednn(weight: Tensor) -> bool:
    """Whether oneDNN multiplies a few rows with these weights on all cores; MKL uses one at M=1."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, laid_out: Tensor | None = None
) -> Tensor:
    """x (..., K), weight (N, K) -> (..., N). `laid_out` is the same weight, from `lay_out`."""
    is_few = x.numel() <= FEW * x.shape[-1]
    if not is_few or x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type):
        return F.linear(x, weight, bias)
    given = weight if laid_out is None else laid_out
    return torch.ops.mkldnn._linear_pointwise(x, given, bias, "none", [], "")


def lay_out(weight: Tensor) -> Tensor:
    """A copy in oneDNN's blocks, a third faster than rows where several rows are multiplied."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_OF_A_BATCH)


class SharedLinear:
    """Weights (N, K) and bias (N,) used where they are; those of a float module."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self.is_fast = has_onednn(weight)
        self.for_batches: Tensor | None = None

    def prepare_batches(self) -> None:
        """A second copy of the weights, laid out for several rows."""
        if self.is_fast and self.for_batches is None:
            self.for_batches = lay_out(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.is_fast:
            return F.linear(x, self.weight, self.bias)
        is_one = x.numel() == x.shape[-1]
        return linear(x, self.weight, self.bias, None if is_one else self.for_batches)


class SideBySide:
    """Several layers of one input, their outputs one behind the other.

    One matrix would save a few percent of a step, and cost a copy of its weights.
    """

    def __init__(self, layers: list[Linear]) -> None:
        self.layers = layers

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self.layers], dim=-1)


def prepare(*layers: nn.Module) -> Linear:
    """One callable for a layer, or for several of one input, whose outputs stand side by side."""
    prepared: list[Linear] = [
        SharedLinear(layer.weight, layer.bias) if isinstance(layer, nn.Linear) else layer
        for layer in layers
    ]
    return prepared[0] if len(prepared) == 1 else SideBySide(prepared)


def prepare_batches(layer: Linear) -> None:
    """Lays out what `prepare` gave for several rows; packed layers are as they are."""
    for each in layer.layers if isinstance(layer, SideBySide) else [layer]:
        if isinstance(each, SharedLinear):
            each.prepare_batches()


# --- 16 and 8 bits a weight ----------------------------------------------------------------------


def can_pack() -> bool:
    """Whether this processor has the kernels: x86 with AVX2."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def shares_scales(model: nn.Module) -> bool:
    """Whether rows of a batch are rounded together, so that each depends on its neighbours."""
    return any(isinstance(m, PackedLinear) and m.packing == "int8" for m in model.modules())


def version_of_all(model: nn.Module) -> list[Any]:
    """`version_of` all that a model computes with."""
    packed = [id(m.packed) for m in model.modules() if isinstance(m, PackedLinear)]
    return [*map(version_of, chain(model.parameters(), model.buffers())), *packed]


class PackedLinear(nn.Module):
    """x W^T + b in float32, W held in 16 or 8 bits; made of a layer, which it replaces.

    16 bits are those of float16: three more for the fraction than bfloat16, and weights are far
    within its range. 8 bits follow a scale for each output, inputs one for all that is fed at once.
    """

    def __init__(self, layer: nn.Linear, packing: Packing) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.packing: Packing = packing
        self._pack(layer.weight.detach().float(), layer.bias)

    def _pack(self, weight: Tensor, bias: Tensor | None) -> None:
        bias = None if bias is None else bias.detach().float()
        with _engine():
            if self.packing == "bf16":
                self.packed: Any = torch.ops.quantized.linear_prepack_fp16(weight, bias)
                return
            scale = weight.abs().amax(1).clamp(min=1e-12).double() / 127  # (N,)
            zero = torch.zeros(len(weight), dtype=torch.long)
            held = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(held, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) of any float type -> float32 (..., N)."""
        if self.packing == "bf16":
            return torch.ops.quantized.linear_dynamic_fp16(x.float(), self.packed)
        # Without VNNI the kernels add pairs in 16 bits, which 8-bit inputs would overflow.
        return torch.ops.quantized.linear_dynamic(x.float(), self.packed, not _has_vnni())

    def unpacked(self) -> tuple[Tensor, Tensor | None]:
        """Weight (N, K) and bias as they count, in float32."""
        if self.packing == "bf16":
            weight, bias = torch.ops.quantized.linear_unpack_fp16(self.packed)
            return weight.float(), bias
        weight, bias = torch.ops.quantized.linear_unpack(self.packed)
        return weight.dequantize(), bias

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """By the names that the layer had; in 16 bits, which loses nothing of the first form."""
        weight, bias = self.unpacked()
        destination[f"{prefix}weight"] = weight.half() if self.packing == "bf16" else weight
        if bias is not None:
            destination[f"{prefix}bias"] = bias

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if f"{prefix}weight" in state_dict:
            self._pack(state_dict[f"{prefix}weight"].float(), state_dict.get(f"{prefix}bias"))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.packing}"


def _has_vnni() -> bool:
    return torch.cpu._is_vnni_supported()


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    """Packs for the kernels of `can_pack`; the way to them is old, and says so once."""
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*quantized tensor.*", category=UserWarning)
            yield
    finally:
        torch.backends.quantized.engine = engine


def pack(module: nn.Module, packing: Packing) -> None:
    """Replaces the linear layers below `module`, one by one: memory falls as it goes."""
    for name, child in list(module.named_modules()):
        if name and isinstance(child, nn.Linear):
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, PackedLinear(child, packing))
