"""Graph and node classification for UnlearnBench: TU, MoleculeNet, and networks of PyTorch Geometric."""
