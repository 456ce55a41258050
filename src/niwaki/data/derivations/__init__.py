"""What can be computed from samples as a column beside them, one file each."""
