"""Layer 1: bytes to plain values and back, strictly. No I/O."""
