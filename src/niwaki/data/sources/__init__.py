"""One file per source of data; each registers a reader under its name."""
