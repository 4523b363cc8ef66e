"""KLoM (Georgiev et al., 2024) for UnlearnBench: the divergence of margins from those of oracles."""
