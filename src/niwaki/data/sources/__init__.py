"""One file per source of data, each with a reader under its name; what they read with is `data.reading`."""
