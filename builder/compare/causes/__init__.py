"""From differing bytes to a likely cause: what the bytes on both sides show, not a guess (`determinism.md` 5)."""
