"""Measure a running server from outside: latency, load, faults, and WHEP servers of any make."""
