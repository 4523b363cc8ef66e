"""Essential-graph target unlearning (Xu et al., 2024) for UnlearnBench."""
