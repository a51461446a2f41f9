"""What can attach to a session: aiortc peers, WebSocket clients, recordings, a virtual camera."""
