"""WF-Net (Poppi et al., IEEE Intelligent Systems 2024) for UnlearnBench."""
