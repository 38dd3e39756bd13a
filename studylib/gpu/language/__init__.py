"""What a kernel is written in: its source, the types that Numba gives it, and the functions of math."""
