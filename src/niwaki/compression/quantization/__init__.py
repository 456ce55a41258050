"""Fewer bits: integers for weights and activations, after training or during it."""
