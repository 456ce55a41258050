"""What `benchmarks/compression.py` compares: models, plans, peers; how rows are made, judged and timed."""
