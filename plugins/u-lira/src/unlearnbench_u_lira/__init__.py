"""U-LiRA (Hayes et al., 2024) and vulnerable samples after RULI (2025) for UnlearnBench."""
