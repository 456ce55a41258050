"""Whether a model copies its training samples."""
