"""One module a format, and the registry of them. All of them meet hostile bytes: every read is checked, none loops."""
