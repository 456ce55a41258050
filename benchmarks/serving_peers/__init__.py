"""Parts of `benchmarks/serve.py`: who asks, and the servers beside niwaki's."""
