"""Layer 1: frozen values that the rest of the program passes around. No I/O."""
