"""How far two collections of pictures are from one another, as collections.

Each function takes features (N, D) and (M, D), one row a picture, in any order. They know neither
pictures nor networks; `taming.evaluation.networks` makes the features, whose name belongs to every
number: a distance on other features is another distance.

Sources: kernel distance, Binkowski et al., arXiv 1801.01401, the unbiased estimate of the squared
maximum mean discrepancy (Gretton et al. 2012, eq. 3) with the kernel (x.y / D + 1)^3; Frechet
distance of Gaussians, Heusel et al., arXiv 1706.08500, eq. 6; precision and recall, Kynkaanniemi
et al., arXiv 1904.06991, eq. 1 and 2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3  # whose distance is the radius of a picture's surroundings


class Quality(NamedTuple):
    precision: float  # share of the others that lie among the true ones
    recall: float  # share of the true ones that lie among the others


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """Unbiased: about zero, and often below, for two draws of the same pictures."""
    _check(one, other, least=2)
    a, b = one.double(), other.double()
    within = (_kernel(x, x).fill_diagonal_(0.0).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(sum(within) - 2.0 * _kernel(a, b).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3  # (N, M)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2). Biased upwards for few pictures: compare equal N.

    With X and X' the centred features over the roots of N and M, the last trace is the sum of the
    singular values of X X'^T, so that no root of a matrix is taken; triangles R of X = Q R have
    the same ones, at no more than D rows.
    """
    _check(one, other, least=2)
    a, b = one.double(), other.double()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    x, y = ((each - each.mean(0)) / (len(each) - 1) ** 0.5 for each in (a, b))
    r, q = (torch.linalg.qr(each, mode="r").R for each in (x, y))
    shared = torch.linalg.svdvals(r @ q.T).sum()
    return float(shift + x.square().sum() + y.square().sum() - 2.0 * shared)


def precision_recall(true: Tensor, other: Tensor, neighbours: int = NEIGHBOURS) -> Quality:
    """How many of the others look true, and how much of the true ones they cover."""
    _check(true, other, least=neighbours + 1)
    apart = torch.cdist(other.double(), true.double())  # (M, N)
    among_true = apart <= _radii(true, neighbours)[None]
    among_other = (apart <= _radii(other, neighbours)[:, None]).T
    return Quality(_covered(among_true), _covered(among_other))


def _radii(features: Tensor, neighbours: int) -> Tensor:
    """Distance of each picture to its k-th neighbour, (N,); the nearest of all is itself."""
    apart = torch.cdist(features.double(), features.double())
    return apart.kthvalue(neighbours + 1, dim=1).values


def _covered(inside: Tensor) -> float:
    return float(inside.any(dim=1).double().mean())


def _check(one: Tensor, other: Tensor, least: int) -> None:
    if min(len(one), len(other)) < least:
        raise ValueError(
            f"{len(one)} and {len(other)} pictures are too few to compare; give at least {least}"
        )
