"""Pure cores: no socket and no clock of their own; time comes in as an argument, in nanoseconds."""
