"""What can attach to a session: for now an aiortc peer."""
