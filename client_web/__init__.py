"""The browser page, served as it is: plain ES modules, no build step. See `stream_server.front.app`."""
