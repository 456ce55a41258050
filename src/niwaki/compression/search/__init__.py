"""Finding the plan that a budget allows."""
