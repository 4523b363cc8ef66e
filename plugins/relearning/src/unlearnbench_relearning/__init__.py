"""Relearn time, relearn curves, the anamnesis index and WF-Net's relearn time for UnlearnBench."""
