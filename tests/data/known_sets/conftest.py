"""Known sets in their true layouts, a few tiny pictures each, written by the tests themselves."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (24, 32)  # height, width; never square


def noise(number: int, size: tuple[int, int] = SIZE, planes: int = 3) -> np.ndarray:
    """A smooth picture, different for each number."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (4, 5, planes)).astype(np.uint8)
    planes_of = [Image.fromarray(small[..., c]).resize(size[::-1], 3) for c in range(planes)]
    return np.stack([np.asarray(plane) for plane in planes_of], axis=2)


class Disk:
    """A folder of all data, as `TAMING_DATA` names it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: Any) -> Path:
        """A text, JSON, picture or array file below the folder."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray) and file.suffix == ".npy":
            np.save(file, content)
        elif isinstance(content, np.ndarray):
            Image.fromarray(content).save(file)
        elif isinstance(content, str):
            file.write_text(content, encoding="utf-8")
        else:
            file.write_text(json.dumps(content), encoding="utf-8")
        return file

    def lines(self, path: str, entries: Sequence[str]) -> Path:
        return self.write(path, "".join(f"{entry}\n" for entry in entries))

    def rows(self, path: str, rows: Sequence[Sequence[Any]]) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows(rows)
        return file

    # --- sets ----------------------------------------------------------------------------------

    SYNSETS = ("n02012849", "n01440764", "n03126707")  # crane, tench, crane

    def imagenet(self, split: str = "train", per_synset: int = 2, depth: bool = True) -> Path:
        """ILSVRC2012_*, unpacked, with tables; depth maps are the bytes of float32."""
        folder = f"ILSVRC2012_{split}"
        number = 0
        for synset in self.SYNSETS:
            for n in range(per_synset):
                name = f"{synset}/{synset}_{n}"
                self.write(f"{folder}/data/{name}.JPEG", noise(number))
                if depth:
                    short = {"train": "train", "validation": "val"}[split]
                    values = noise(100 + number)[..., 0].astype(np.float32) / 7
                    bytes_of = values.view(np.uint8).reshape(*SIZE, 4)
                    self.write(f"imagenet_depth/{short}/{name}.png", bytes_of)
                number += 1
        words = ("crane", "tench, Tinca tinca", "crane")
        pairs = zip(self.SYNSETS, words, strict=True)
        self.lines(f"{folder}/synset_human.txt", [f"{s} {w}" for s, w in pairs])
        index = [f"{i}: {s}" for i, s in enumerate(sorted(self.SYNSETS))]
        self.lines(f"{folder}/index_synset.yaml", index)
        return self.root / folder

    def faces(self, split: str = "train") -> Path:
        celebs = [f"imgHQ{n:05}.npy" for n in range(2)]
        people = [f"{n:05}.png" for n in range(3)]
        for n, name in enumerate(celebs):
            planes = noise(n, (32, 32)).transpose(2, 0, 1)[None]
            self.write(f"celebahq/{name}", planes)  # (1, 3, H, W)
        for n, name in enumerate(people):
            self.write(f"ffhq/{name}", noise(10 + n, (32, 32)))
        self.lines(f"celebahq{split}.txt", celebs)
        self.lines(f"ffhq{split}.txt", people)
        return self.root

    def class_folders(self, *parts: str) -> Path:
        """Three tulips and two daisies, one of them deeper; one flower of no class."""
        for part in parts or (".",):
            names = ["tulip/0.png", "tulip/1.png", "tulip/2.png", "daisy/0.png", "daisy/old/0.png"]
            for n, name in enumerate([*names, "other.png"]):
                self.write(f"flowers/{part}/{name}", noise(n))
        return self.root / "flowers"

    def ade20k(self, lists: bool = True) -> Path:
        scenes = []
        for part, count in (("training", 3), ("validation", 2)):
            names = [f"ADE_{part[:5]}_{n:08}" for n in range(count)]
            for n, name in enumerate(names):
                self.write(f"ade20k_root/images/{part}/{name}.jpg", noise(n))
                self.write(f"ade20k_root/annotations/{part}/{name}.png", labels(0, 1, 13, 150))
                scenes.append(f"{name} {'kitchen' if n else 'beach'}")
            if lists:
                short = {"training": "train", "validation": "test"}[part]
                self.lines(f"ade20k_{short}.txt", [f"{part}/{name}.jpg" for name in names])
        self.lines("ade20k_root/sceneCategories.txt", scenes)
        return self.root / "ade20k_root"

    def examples(self, name: str, *ids: int) -> None:
        self.lines(f"{name}_examples.txt", ["a.jpg", "b.jpg"])
        for n, stem in enumerate("ab"):
            self.write(f"{name}_images/{stem}.jpg", noise(n))
            self.write(f"{name}_segmentations/{stem}.png", labels(*ids))

    def drin(self) -> None:
        self.lines("drin_examples.txt", ["a.JPEG"])
        self.write("drin_images/a.JPEG", noise(0, (256, 256)))
        depth = noise(1, (256, 256))[..., 0].astype(np.float32)
        self.write("drin_depth/a.png", depth.view(np.uint8).reshape(256, 256, 4))

    def coco(self, year: str = "val2017", count: int = 3) -> Path:
        """Captions, things, stuff, joints, and label maps beside the folder."""
        height, width = SIZE
        images = [
            {"id": 10 + n, "file_name": f"{10 + n:012}.jpg", "height": height, "width": width}
            for n in range(count)
        ]
        captions, things, stuff, people = [], [], [], []
        for n, image in enumerate(images):
            image["coco_url"] = ""
            stem = image["file_name"][:-4]
            self.write(f"coco/{year}/{stem}.jpg", noise(n))
            self.write(f"cocostuffthings/{year}/{stem}.png", labels(0, 17, 181, 255))
            pixelmap = f"coco/annotations/stuff_{year}_pixelmaps/{stem}.png"
            self.write(pixelmap, noise(50 + n))
            of = {"id": n, "image_id": image["id"], "iscrowd": n % 2}
            captions += [{**of, "caption": f"picture {n}, {word}"} for word in ("red", "blue")]
            things.append({**of, "category_id": 18, "bbox": [8.0, 6.0, 16.0, 12.0]})
            stuff.append({**of, "category_id": 157, "bbox": [0.0, 0.0, 32.0, 6.0 + n]})
            stuff.append({**of, "category_id": 183, "bbox": [1.0, 1.0, 9.0, 9.0]})
            joints = [20.0, 4.0, 2, 10.0, 4.0, 2] + [0, 0, 0] * 15
            people.append({**of, "iscrowd": 0, "category_id": 1, "keypoints": joints})
        joint_names = ["left_eye", "right_eye", *[f"none_{n}" for n in range(15)]]
        categories = {
            "captions": [],
            "instances": [{"id": 18, "name": "dog", "supercategory": "animal"}],
            "stuff": [
                {"id": 157, "name": "sky-other", "supercategory": "sky"},
                {"id": 183, "name": "other", "supercategory": "other"},
            ],
            "person_keypoints": [{"id": 1, "name": "person", "keypoints": joint_names}],
        }
        parts = dict(zip(categories, (captions, things, stuff, people), strict=True))
        for kind, annotations in parts.items():
            content = {
                "images": images,
                "annotations": annotations,
                "categories": categories[kind],
            }
            self.write(f"coco/annotations/{kind}_{year}.json", content)
        return self.root / "coco"

    def open_images(self, split: str = "validation") -> Path:
        head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
        head += "IsGroupOf,IsDepiction,IsInside"
        rows: list[Sequence[Any]] = [head.split(",")]
        for n, name in enumerate(("00000000000000aa", "00000000000000ab")):
            self.write(f"open_images/{split}/{name}.jpg", noise(n))
            rows.append([name, "x", "/m/04yx4", 1, 0.25, 0.75, 0.25, 0.5, 1, 0, 1, 0, 0])
            rows.append([name, "x", "/m/01s55n", 1, 0.0, 0.5, 0.5, 1.0, 0, 0, 0, 0, 1])
        self.rows(f"open_images/{split}-annotations-bbox.csv", rows)
        self.lines(f"open_images/{split}-images.csv", ["image_name"])
        classes = [("/m/01s55n", "Suitcase"), ("/m/04yx4", "Man"), ("/m/01g317", "Person")]
        self.rows("open_images/class-descriptions-boxable.csv", classes)
        return self.root / "open_images"

    def deepfashion(self) -> Path:
        for split, count in (("train", 3), ("test", 1)):
            lines = ["name:keypoints_y:keypoints_x"]
            for n in range(count):
                name = f"fashion{split}{n}.jpg"
                self.write(f"deepfashion/{split}/{name}", noise(n, (32, 22)))
                # nose and both shoulders; nobody in the last picture of the training part
                y, x = [-1] * 18, [-1] * 18
                if n < 2:
                    y[0], x[0], y[2], x[2], y[5], x[5] = 4, 11, 10, 6, 10, 16
                lines.append(f"{name}: {y}: {x}")
            self.lines(f"deepfashion/fasion-resize-annotation-{split}.csv", lines)
        return self.root / "deepfashion"


def labels(*ids: int) -> np.ndarray:
    """uint8 (H, W): a column of equal width for each id."""
    columns = np.arange(SIZE[1]) * len(ids) // SIZE[1]
    return np.repeat(np.array(ids, dtype=np.uint8)[columns][None], SIZE[0], axis=0)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """An empty folder of all data, found by its variable; the working directory has none."""
    root = tmp_path / "everything"
    root.mkdir()
    monkeypatch.setenv("TAMING_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Disk(root)
