"""Layer 2: statements about files, and the envelopes they are signed in. No I/O."""
