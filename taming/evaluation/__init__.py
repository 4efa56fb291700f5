"""Evaluation: how good are pictures, by measures that the models were not trained on.

`evaluate` runs the whole suite on a model and writes a report; `taming evaluate` is the same from
the command line. The demos, `python -m taming.evaluation.demo` and
`demo_training`, leave a page to look at.
"""

from taming.evaluation.judges import Judge, JudgeConfig, load_judge
from taming.evaluation.report import Row
from taming.evaluation.subject import QUICK, Plan
from taming.evaluation.suite import STAGES, evaluate

__all__ = ["QUICK", "STAGES", "Judge", "JudgeConfig", "Plan", "Row", "evaluate", "load_judge"]
