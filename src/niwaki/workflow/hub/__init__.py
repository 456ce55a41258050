"""Bundles as folders of the Hugging Face hub: their layout, their card, the way there and back."""
