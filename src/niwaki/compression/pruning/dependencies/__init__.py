"""Which channels belong together: tracing a model, its dependency graph, its width attributes."""
