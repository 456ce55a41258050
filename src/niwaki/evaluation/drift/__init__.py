"""Whether samples that come one after another are still what they were. A channel is a way to differ."""
