"""What happened: events, items, and their way into arrays."""
