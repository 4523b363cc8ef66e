"""Node classification: graphs, networks that propagate before they learn, and attacks on edges and nodes."""
