"""Pictures -> keypoints.json in COCO's form, by a top-down pose network such as ViTPose.

The network looks at one person at a time. Where people are is told by a detector; without one,
each picture is taken for one person who fills it, as pictures of clothes are.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from taming.annotators.base import Annotator, Pixels, check_origin, open_network, write_json
from taming.data.annotations import read_json
from taming.data.batch import JOINTS
from taming.data.keypoints import joint_index

COCO_JOINTS = JOINTS[:17]
SEEN = 0.3  # score from which a joint counts as seen
PERSON = 0.5  # score from which a detection counts as a person


class PoseAnnotator(Annotator):
    task = "human pose"

    def __init__(
        self, root: Path, network: str, device: str = "cpu", detector: str | None = None
    ) -> None:
        super().__init__(root, network, device)
        self.model, self.processor = open_network(
            ["AutoModelForPoseEstimation"], network, self.task, self.device
        )
        self.joints = self._joint_names()
        self.info = {"model": network, "detector": detector}
        self.detector = None
        if detector is not None:
            self.detector = open_network(
                ["AutoModelForObjectDetection"], detector, "detecting people", self.device
            )
        self.images: list[dict[str, Any]] = []
        self.people: list[dict[str, Any]] = []
        if self.file.is_file():
            found = read_json(self.file)
            # A file without the key may have been made with any detector.
            origin = {"detector": detector} | (found.get("info") or {})
            by = f"{network} with detector {detector}"
            check_origin(self.file, origin == self.info, by)
            self.images, self.people = found["images"], found["annotations"]
        files = (PurePosixPath(image["file_name"]) for image in self.images)
        self.done = {file.with_suffix("").as_posix() for file in files}

    @property
    def file(self) -> Path:
        return self.root / "keypoints.json"

    def _joint_names(self) -> list[str]:
        """The network's own names where they mean joints, else COCO's order."""
        named = self.model.config.id2label
        names = [str(named[index]) for index in sorted(named)]
        if any(joint_index(name) is not None for name in names):
            return names
        if len(names) != len(COCO_JOINTS):
            raise ValueError(
                f"{self.network} finds {len(names)} joints without names; COCO's are "
                f"{len(COCO_JOINTS)}: choose another network"
            )
        return list(COCO_JOINTS)

    def has(self, name: str) -> bool:
        return name in self.done

    def add(self, name: str, file: str, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        number = len(self.images)
        boxes = self.find_people(pixels)
        found = zip(boxes, self.find_joints(pixels, boxes), strict=True)
        people = [
            {
                "id": index,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [round(float(at), 2) for at in box],
                "area": round(float(box[2] * box[3]), 2),
                "keypoints": joints,
                "num_keypoints": sum(seen > 0 for seen in joints[2::3]),
            }
            for index, (box, joints) in enumerate(found, start=len(self.people))
        ]
        # Only now: a picture that is listed without its people would be one of nobody.
        self.people += people
        self.images.append({"id": number, "file_name": file, "width": width, "height": height})
        self.done.add(name)

    def find_people(self, pixels: Pixels) -> list[list[float]]:
        """Boxes (left, top, width, height) in pixels."""
        height, width = pixels.shape[:2]
        if self.detector is None:
            return [[0.0, 0.0, float(width), float(height)]]
        model, processor = self.detector
        inputs = processor(images=pixels, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = model(**inputs)
        found = processor.post_process_object_detection(
            outputs, threshold=PERSON, target_sizes=[(height, width)]
        )[0]
        names = [str(model.config.id2label[int(label)]).lower() for label in found["labels"]]
        corners = found["boxes"].tolist()
        return [
            [x0, y0, x1 - x0, y1 - y0]
            for (x0, y0, x1, y1), name in zip(corners, names, strict=True)
            if name == "person" and x1 > x0 and y1 > y0
        ]

    def find_joints(self, pixels: Pixels, boxes: list[list[float]]) -> list[list[float]]:
        """x, y, visibility of each joint, one list for each box."""
        if not boxes:
            return []
        inputs = self.processor(images=pixels, boxes=[boxes], return_tensors="pt")
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.device))
        found = self.processor.post_process_pose_estimation(outputs, boxes=[boxes])[0]
        height, width = pixels.shape[:2]
        return [_triples(person, len(self.joints), height, width) for person in found]

    def save(self) -> None:
        person = {"id": 1, "name": "person", "keypoints": self.joints}
        write_json(
            self.file,
            {
                "info": self.info,
                "images": self.images,
                "annotations": self.people,
                "categories": [person],
            },
        )


def _triples(person: dict[str, Any], count: int, height: int, width: int) -> list[float]:
    """x, y and 2, or three zeros for a joint that is not seen in the picture."""
    triples = np.zeros((count, 3))
    labels, places = person["labels"].tolist(), person["keypoints"].tolist()
    for joint, (x, y), score in zip(labels, places, person["scores"].tolist(), strict=True):
        if score >= SEEN and 0 <= x <= width - 1 and 0 <= y <= height - 1:
            triples[joint] = x, y, 2
    return [round(float(number), 2) for number in triples.flatten()]
