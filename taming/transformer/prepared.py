"""Linear layers as decoding wants them: a few rows at a time, so that reading weights is the cost.

At one row a matrix product reads every weight once and computes almost nothing: its time is bytes /
bandwidth, if the kernel uses all cores and all of the bandwidth, which the ones for large products
do not. Three forms, chosen by what they save:

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
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class _SideBySide:
    """Several layers of one input, their outputs one behind the other."""

    def __init__(self, layers: list[Linear]) -> None:
        self.layers = layers

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self.layers], dim=-1)


def prepare(*layers: nn.Module) -> Linear:
    """One callable for a layer, or for several of one input, whose outputs stand side by side.

    Weights of float layers become parts of one matrix: the parameters stay, and share its memory.
    """
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return layers[0] if len(layers) == 1 else _SideBySide(list(layers))
    if len(layers) == 1:
        return SharedLinear(layers[0].weight, layers[0].bias)  # pyright: ignore[reportArgumentType]
    weight = _join([layer.weight for layer in layers])  # pyright: ignore[reportArgumentType]
    has_bias = layers[0].bias is not None
    return SharedLinear(weight, _join([layer.bias for layer in layers]) if has_bias else None)  # pyright: ignore[reportArgumentType]


@torch.inference_mode(False)  # or training could not use the parameters any more
@torch.no_grad()
def _join(parameters: list[nn.Parameter]) -> Tensor:
    """One matrix whose parts the parameters become; the same one if they are already."""
    first = parameters[0]
    start, rows = first.storage_offset(), sum(len(each) for each in parameters)
    ends = start
    for each in parameters:
        is_next = each.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and each.is_contiguous() and each.storage_offset() == ends):
            joined = torch.cat([each.detach() for each in parameters])
            for own, part in zip(
                parameters, joined.split([len(each) for each in parameters]), strict=True
            ):
                own.data = part
            return joined
        ends += each.numel()
    shape = (rows, *first.shape[1:])
    return first.detach().as_strided(shape, first.stride(), start)


# --- 16 and 8 bits a weight ----------------------------------------------------------------------


def can_pack() -> bool:
    """Whether this processor has the kernels: x86 with AVX2."""
    return "fbgemm" in torch.backends.quantized.supported_engines


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


def pack(module: nn.Module, packing: Packing, keep: tuple[str, ...] = ()) -> nn.Module:
    """Replaces the linear layers below `module`, one by one; those of `keep` in 16 bits.

    ValueError where the processor has no kernels for 8 bits; 16 bits are then bfloat16.
    """
    if not can_pack():
        if packing == "int8":
            raise ValueError('precision "int8" needs an x86 processor; use "bf16"')
        return module.to(torch.bfloat16)
    for name, child in list(module.named_modules()):
        if not name or not isinstance(child, nn.Linear):
            continue
        parent, _, own = name.rpartition(".")
        chosen: Packing = "bf16" if name in keep else packing
        setattr(module.get_submodule(parent), own, PackedLinear(child, chosen))
    return module
