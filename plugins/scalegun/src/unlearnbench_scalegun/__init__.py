"""ScaleGUN: certified unlearning on graphs, by propagated features that are kept up to date."""
