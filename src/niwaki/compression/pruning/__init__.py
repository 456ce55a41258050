"""Taking weights away: whole channels, single weights, whole blocks."""
