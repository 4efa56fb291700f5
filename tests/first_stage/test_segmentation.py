"""Laws of the first stage of label maps, and of its losses."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.checkpoint import load_weights
from taming.config import instantiate_from_config
from taming.first_stage import VQModel, VQSegmentationModel
from taming.first_stage.losses import AdversarialLoss
from taming.first_stage.segmentation import BCELoss, BCELossWithQuant

N = 5
DDCONFIG = {
    "z_channels": 4,
    "resolution": 16,
    "in_channels": N,
    "out_ch": N,
    "ch": 8,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "norm_groups": 4,
}
LOSS = {"target": "taming.first_stage.segmentation.BCELossWithQuant"}


def model(**options: Any) -> VQSegmentationModel:
    torch.manual_seed(0)
    return VQSegmentationModel(N, DDCONFIG, LOSS, n_embed=16, embed_dim=4, **options)


def labels() -> Tensor:
    """One-hot (2, N, 8, 12), the last column without a label."""
    ids = torch.randint(N, (2, 8, 12), generator=torch.Generator().manual_seed(0))
    planes = F.one_hot(ids, N).permute(0, 3, 1, 2).float()
    planes[..., -1] = 0.0
    return planes


def test_a_label_map_becomes_codes_and_logits() -> None:
    reconstruction, loss = model()(labels())
    assert reconstruction.shape == (2, N, 8, 12)
    assert loss.shape == ()


def test_a_config_in_the_published_form_builds_it() -> None:
    params = {"n_labels": N, "ddconfig": DDCONFIG, "lossconfig": LOSS, "image_key": "segmentation"}
    target = "taming.models.vqgan.VQSegmentationModel"
    built = instantiate_from_config(
        {"target": target, "params": {**params, "n_embed": 16, "embed_dim": 4}}
    )
    assert isinstance(built, VQSegmentationModel)
    assert built.image_key == "segmentation"


def test_a_config_that_names_no_key_reads_the_image_as_published() -> None:
    assert model().image_key == "image"


def test_colours_are_saved_and_read_with_the_weights() -> None:
    one, other = model(), model()
    assert one.state_dict()["colorize"].shape == (3, N, 1, 1)
    with torch.no_grad():
        one.get_buffer("colorize").add_(1.0)
    load_weights(other, one.state_dict())
    assert torch.equal(one.get_buffer("colorize"), other.get_buffer("colorize"))


def test_a_label_has_one_colour_and_no_other_label_has_it() -> None:
    planes = labels()[..., :-1]
    colours = model().to_rgb(planes)
    assert colours.shape == (2, 3, 8, 11)
    assert float(colours.min()) == -1.0
    assert float(colours.max()) == 1.0
    ids, pixels = planes.argmax(dim=1).flatten(), colours.permute(0, 2, 3, 1).reshape(-1, 3)
    seen = [pixels[ids == label].unique(dim=0) for label in range(N)]
    assert [len(colour) for colour in seen] == [1] * N
    assert len(torch.cat(seen).unique(dim=0)) == N


def test_a_model_without_colours_of_its_own_shows_the_same_ones_every_time() -> None:
    plain = VQModel(DDCONFIG, n_embed=16, embed_dim=4)
    assert torch.equal(plain.to_rgb(labels()), plain.to_rgb(labels()))
    assert not hasattr(plain, "colorize")


def test_the_loss_is_the_entropy_of_every_plane() -> None:
    target, logits = labels(), torch.randn(2, N, 8, 12)
    p = logits.sigmoid()
    by_hand = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    value, logs = BCELoss()(logits, target)
    torch.testing.assert_close(value, by_hand)
    assert logs == {}


def test_the_quantizers_loss_has_its_weight_and_its_gradient() -> None:
    target, logits = labels(), torch.randn(2, N, 8, 12)
    quantizers = torch.tensor(2.0, requires_grad=True)
    value, logs = BCELossWithQuant(codebook_weight=3.0)(quantizers, target, logits, split="val")
    value.backward()
    assert quantizers.grad == 3.0
    entropy = BCELoss()(logits, target)[0]
    torch.testing.assert_close(value, entropy + 6.0)
    torch.testing.assert_close(logs["val/total_loss"], value.detach())
    torch.testing.assert_close(logs["val/bce_loss"], entropy)
    assert float(logs["val/quant_loss"]) == 2.0


def test_it_is_played_alone() -> None:
    assert not isinstance(BCELossWithQuant(), AdversarialLoss)


@pytest.mark.parametrize("wrong", [0, 11])
def test_accuracy_counts_labelled_pixels_only(wrong: int) -> None:
    target = labels()
    logits = target.clone()
    logits[0, :, 0, :wrong] = target[0, :, 0, :wrong].roll(1, dims=0)
    logits[..., -1] = torch.eye(N)[0][:, None]  # an answer where nobody asked
    found = BCELossWithQuant().quality(target, logits)["accuracy"]
    labelled = 2 * 8 * 11
    assert float(found) == pytest.approx((labelled - wrong) / labelled)
