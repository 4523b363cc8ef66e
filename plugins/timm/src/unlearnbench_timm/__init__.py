"""timm's image classifiers as UnlearnBench components."""
