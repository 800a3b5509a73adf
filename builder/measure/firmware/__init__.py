"""Firmware files: metadata, MRTD, TD HOB, EFI variables, and what else decides RTMR[0]."""
