"""Layer 2: from an envelope to a verified statement and what it says. No I/O."""
