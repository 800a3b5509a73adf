"""tdx-builder: build confidential-VM images twice, compare, measure, sign and verify them."""

__version__ = "0.1.0"
