"""Emulated machines: QEMU as a reader of ACPI tables and as the outside of a rehearsal, with its TPM and its memory."""
