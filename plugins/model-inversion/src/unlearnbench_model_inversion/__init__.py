"""Model inversion (Fredrikson et al., 2015) for UnlearnBench."""
