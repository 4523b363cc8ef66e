"""torchvision's classification data sets and networks as UnlearnBench components."""
