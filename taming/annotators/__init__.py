"""Networks of the `transformers` library -> depth maps, label maps and joints beside pictures."""

from taming.annotators.folder import ANNOTATORS, annotate

__all__ = ["ANNOTATORS", "annotate"]
