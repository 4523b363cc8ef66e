"""Gentle ascent for UnlearnBench."""
