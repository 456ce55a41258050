"""What a notebook shows: progress in one place of a cell, and views of what verbs return."""
