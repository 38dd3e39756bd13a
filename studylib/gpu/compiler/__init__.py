"""What NVIDIA's own compiler makes of a kernel: registers, spills, occupancy."""
