"""Whether an extractor's metrics answer to known damage, before they are trusted."""
