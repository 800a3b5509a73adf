"""Platforms other than QEMU with OVMF: Google Compute Engine, td-shim under Cloud Hypervisor."""
