"""The forgetting score of the NeurIPS 2023 unlearning competition for UnlearnBench."""
