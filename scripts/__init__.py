"""Tools beside the product: never imported by it, never installed with it."""
