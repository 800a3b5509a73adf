"""Naming the first event that differs, and saying what would make it fit."""
