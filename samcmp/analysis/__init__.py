"""Records to what can be said: cells, statistics, verdicts, the gate."""
