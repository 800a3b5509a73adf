"""Ways to boot, and the events each extends (`measurement.md` 6, 7)."""
