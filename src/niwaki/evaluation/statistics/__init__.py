"""What every metric stands on: results with intervals, arrays, shares, closed forms, samples."""
