"""EFI images: PE, Authenticode, kernels and UKIs."""
