"""The published architectures, one file a paper, built from plain torch modules."""
