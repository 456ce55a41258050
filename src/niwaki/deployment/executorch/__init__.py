"""A bundle's graphs as executorch programs: for phones, with XNNPACK where it takes an operator."""
