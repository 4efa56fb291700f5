"""Evaluation: how good are pictures, by measures that the models were not trained on.

`taming.evaluation.obedience` asks independent judges whether samples show what was asked for,
`taming.evaluation.reconstruction` what the codebook keeps of a picture; both are programs too.
"""

from taming.evaluation.judges import Judge, JudgeConfig, load_judge
from taming.evaluation.measures import derangement, score_depth, score_labels, score_pose

__all__ = [
    "Judge",
    "JudgeConfig",
    "derangement",
    "load_judge",
    "score_depth",
    "score_labels",
    "score_pose",
]
