"""Baselines for UnlearnBench that every other unlearner should beat."""
