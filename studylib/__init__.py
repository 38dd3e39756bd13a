"""What several weeks share: costs, published networks, the papers' numbers, data, training, figures, kernels."""
