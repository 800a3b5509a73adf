"""dstack's images, machines, event logs and identities (`quotes.md` 3.6, 5 to 8)."""
