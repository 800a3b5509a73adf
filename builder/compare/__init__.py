"""Layer 2: are two sides the same bytes, and if not: where, how, why, and which register it would change. No I/O."""
