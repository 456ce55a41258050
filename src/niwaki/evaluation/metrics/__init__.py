"""One metric a file: features in, a `Result` out."""
