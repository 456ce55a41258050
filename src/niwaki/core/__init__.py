"""What everything stands on: the contract of models, training, graphs, registries, files and errors."""
