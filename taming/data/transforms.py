"""One random draw that moves a picture, its maps and its joints together.

The only place where pixels become numbers in [-1, 1]. A draw is a crop of the wanted proportions
at a random place and scale, resized in one step, then perhaps mirrored (left and right exchange
their names: joints, labels, boxes, classes, words) and recoloured; for evaluation, the central
crop and nothing else.

albumentations applies the draw. Its `Compose.set_random_seed` hands one seed to all transforms, so
that each would begin with the same random number (mirrored pictures would all be zoomed alike);
here each transform gets a seed of its own.
"""

import functools
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from taming.data.annotations import normalised_depth
from taming.data.batch import JOINTS, LEFT_RIGHT
from taming.data.keypoints import hide_outside
from taming.data.sides import NO_SIDES, Sides, exchanged, mirrored_words

if TYPE_CHECKING:
    import albumentations

Raw = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """Which random changes a set allows.

    size: height and width of the result.
    scale: the crop is 1/scale of the largest one that fits; drawn evenly on a log scale.
    flip: mirror every second picture; wrong for lettering, signs, left-hand traffic and the like.
    jitter: strength of changes of brightness, contrast, saturation (and a tenth of it in hue).
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"size {self.size} (height, width) must be positive")
        if not 1.0 <= self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale}: 1 <= low <= high, 1 being the largest crop")
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"jitter {self.jitter} must be in [0, 1)")

    def centre(self) -> "Draw":
        """The same size without any chance: for evaluation."""
        return Draw(self.size, (self.scale[0], self.scale[0]), flip=False, jitter=0.0)


def transformed(raw: Raw, draw: Draw, seed: int | None, sides: Sides = NO_SIDES) -> Raw:
    """A picture with its annotations -> tensors of one sample; seed None takes the centre.

    raw: image uint8 (h, w, 3); labels int (h, w); depth float32 inverse depth (h, w); keypoints
    float32 (N, 19, 3); boxes float32 (N, 5), corners in 0..1 and category; class_label; caption.
    All but the image may be missing. Of the boxes, the part inside is kept, in pixels, if it is
    larger than one. sides: the ids that are exchanged when the picture is mirrored.
    """
    geometry, colour = _composed(draw, centre=seed is None)
    inputs: Raw = {"image": raw["image"]}
    if "labels" in raw:
        inputs["mask"] = raw["labels"]
    if "depth" in raw:
        inputs["depth"] = raw["depth"]
    if "keypoints" in raw:
        inputs["keypoints"] = raw["keypoints"][..., :2].reshape(-1, 2)  # (N*19, 2)
    if "boxes" in raw:
        inputs["bboxes"] = raw["boxes"]
    seed_transforms(geometry, seed)
    moved = geometry(**inputs)
    image = moved["image"]
    mirrored = any(name == "Mirror" for name, _ in moved["applied_transforms"])
    if not mirrored:
        sides = NO_SIDES
    if colour is not None:
        seed_transforms(colour, None if seed is None else seed + 1)
        image = colour(image=image)["image"]
    sample: Raw = {"image": to_image(image)}
    if "labels" in raw:
        labels = exchanged(moved["mask"].astype(np.int64), sides.labels)
        sample["labels"] = torch.from_numpy(labels)  # (H, W)
    if "depth" in raw:
        sample["depth"] = torch.from_numpy(normalised_depth(moved["depth"]))[None]  # (1, H, W)
    if "keypoints" in raw:
        keypoints = np.zeros_like(raw["keypoints"])
        points = np.asarray(moved["keypoints"], dtype=np.float32)
        keypoints[..., :2] = points[:, :2].reshape(-1, len(JOINTS), 2)
        visible = raw["keypoints"][..., 2]
        keypoints[..., 2] = visible[:, LEFT_RIGHT] if mirrored else visible
        hide_outside(keypoints, *draw.size)
        keypoints[keypoints[..., 2] == 0] = 0.0
        sample["keypoints"] = torch.from_numpy(keypoints)  # (N, 19, 3)
    if "boxes" in raw:
        boxes = np.asarray(moved["bboxes"], dtype=np.float32).reshape(-1, 5)
        height, width = draw.size
        boxes[:, 4] = exchanged(boxes[:, 4], sides.boxes)
        boxes = boxes * np.array([width, height, width, height, 1], dtype=np.float32)
        sample["boxes"] = torch.from_numpy(boxes)  # (N, 5): x0 y0 x1 y1, category
    if "class_label" in raw:
        index = int(raw["class_label"])
        sample["class_label"] = torch.tensor(sides.classes.get(index, index))
    if "caption" in raw:
        sample["caption"] = mirrored_words(raw["caption"]) if mirrored else raw["caption"]
    return sample


def to_image(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [-1, 1]."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes).div_(127.5).sub_(1.0)


def seed_transforms(compose: "albumentations.Compose", seed: int | None) -> None:
    """Gives every transform a seed of its own, made of one; None leaves them unrepeatable."""
    for number, transform in enumerate(compose.transforms):
        transform.set_random_seed(None if seed is None else (seed * 1_000_003 + number) % 2**63)


@functools.lru_cache(maxsize=64)
def _composed(
    draw: Draw, centre: bool
) -> tuple["albumentations.Compose", "albumentations.Compose | None"]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    height, width = draw.size

    class ScaledCrop(A.DualTransform):
        """Cuts a box of the wanted proportions and resizes it; box coordinates in pixels."""

        def get_params_dependent_on_data(self, params: Raw, data: Raw) -> Raw:
            rows, columns = params["shape"][:2]
            low, high = (math.log(bound) for bound in draw.scale)
            scale = math.exp(low if centre else self.py_random.uniform(low, high))
            fit = min(rows / height, columns / width) / scale
            box_height = min(rows, max(1, round(height * fit)))
            box_width = min(columns, max(1, round(width * fit)))
            down, right = rows - box_height, columns - box_width
            top = down // 2 if centre else self.py_random.randint(0, down)
            left = right // 2 if centre else self.py_random.randint(0, right)
            return {"box": (top, left, box_height, box_width)}

        def apply(self, img: NDArray, box: tuple[int, int, int, int], **params: Any) -> NDArray:
            # Averaging when it shrinks, smooth when it grows; depth must not overshoot its range.
            grow = cv2.INTER_CUBIC if img.ndim == 3 else cv2.INTER_LINEAR
            shrinks = box[2] > height
            return self._resized(img, box, cv2.INTER_AREA if shrinks else grow)

        def apply_to_mask(self, mask: NDArray, box: Any, **params: Any) -> NDArray:
            return self._resized(mask, box, cv2.INTER_NEAREST_EXACT)

        def apply_to_keypoints(self, keypoints: NDArray, box: Any, **params: Any) -> NDArray:
            top, left, box_height, box_width = box
            moved = keypoints.copy()
            moved[:, 0] = (keypoints[:, 0] - left + 0.5) * (width / box_width) - 0.5
            moved[:, 1] = (keypoints[:, 1] - top + 0.5) * (height / box_height) - 0.5
            return moved

        def apply_to_bboxes(self, bboxes: NDArray, box: Any, shape: Any, **params: Any) -> NDArray:
            top, left, box_height, box_width = box
            moved = bboxes.copy()  # (N, 5), corners in 0..1
            moved[:, [0, 2]] = (bboxes[:, [0, 2]] * shape[1] - left) / box_width
            moved[:, [1, 3]] = (bboxes[:, [1, 3]] * shape[0] - top) / box_height
            return moved

        @staticmethod
        def _resized(array: NDArray, box: tuple[int, int, int, int], how: int) -> NDArray:
            top, left, box_height, box_width = box
            cut = array[top : top + box_height, left : left + box_width]
            return cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=how)

    class Mirror(A.HorizontalFlip):
        """Also exchanges left and right joints: every 19 rows are one person."""

        def apply_to_keypoints(self, keypoints: NDArray, **params: Any) -> NDArray:
            flipped = super().apply_to_keypoints(keypoints, **params)
            people = flipped.reshape(-1, len(JOINTS), flipped.shape[-1])
            return people[:, LEFT_RIGHT].reshape(flipped.shape)

    steps: list[Any] = [ScaledCrop(p=1.0)]
    if draw.flip and not centre:
        steps.append(Mirror(p=0.5))
    geometry = A.Compose(
        steps,
        additional_targets={"depth": "image"},
        keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        bbox_params=A.BboxParams(
            "albumentations", min_area=1.0, clip=True, filter_invalid_bboxes=True
        ),
        is_check_shapes=False,  # sizes are compared, with file names, where the files are read
        save_applied_params=True,
    )
    colour = None
    if draw.jitter > 0 and not centre:
        around = (1 - draw.jitter, 1 + draw.jitter)
        hue = draw.jitter / 10
        colour = A.Compose([A.ColorJitter(around, around, around, (-hue, hue), p=1.0)])
    return geometry, colour
