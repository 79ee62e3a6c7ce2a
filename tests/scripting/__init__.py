"""The interpreter of scripts: what scripts compute, what they cannot reach, and what stops them."""
