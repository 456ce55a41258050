"""Sampling that several processes share: each makes some of the batches, the first one has them all."""
