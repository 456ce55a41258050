"""Many runs: where they are, what they came to, and what tells them apart."""
