"""The stages of a run, one file each: inputs → record. One works only where what it depends on changed."""
