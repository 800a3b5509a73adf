"""Layer 4: one module per verb. They know the ports, never a backend."""
