"""Training on, taught by the uncompressed model."""
