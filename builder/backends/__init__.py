"""Layer 4: the outside world, one module each, behind a port of `builder.ports`."""
