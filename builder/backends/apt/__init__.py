"""What `lock` asks apt: its sources, its program with a private state directory, and how its answers are read."""
