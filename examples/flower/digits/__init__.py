"""A federation that learns ten noisy patterns, with a network of one hidden layer, in NumPy alone."""
