"""The ACPI blobs: checked, generated, and what firmware programs before they are built (`acpi.md`)."""
