"""Legs in Docker: a daemon anywhere, pinned roots as images, files carried in and out of volumes."""
