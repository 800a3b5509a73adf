"""What tdx-builder costs: measured side by side in one run, and told against the aims of README.md."""
