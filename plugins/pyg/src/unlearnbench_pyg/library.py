"""What is taken from PyTorch Geometric.

Importing it warns that it uses a part of torch that is deprecated. That is for its authors to know; here it would only
stand in front of every table, so it is silenced at the one place where the library is imported.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.*is deprecated", category=Warning)
    from torch_geometric.datasets import MoleculeNet, TUDataset  # type: ignore[import-untyped]
    from torch_geometric.nn import (  # type: ignore[import-untyped]
        GATConv,
        GCNConv,
        GINConv,
        global_add_pool,
        global_mean_pool,
    )
    from torch_geometric.utils import from_smiles  # type: ignore[import-untyped]
    from torch_geometric.utils.smiles import x_map  # type: ignore[import-untyped]

__all__ = [
    "GATConv",
    "GCNConv",
    "GINConv",
    "MoleculeNet",
    "TUDataset",
    "from_smiles",
    "global_add_pool",
    "global_mean_pool",
    "x_map",
]
