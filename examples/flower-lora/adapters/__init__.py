"""Low-rank adapters of a frozen transformer, trained by a federation, in NumPy alone."""
