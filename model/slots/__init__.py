"""The serving step on a GPU: one function of tensors for a fixed number of slots, captured as a CUDA graph."""
