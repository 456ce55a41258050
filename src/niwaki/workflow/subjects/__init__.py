"""Whatever a verb is about: a run, a model in memory, a factory, a hub folder, a bundle, files of samples."""
