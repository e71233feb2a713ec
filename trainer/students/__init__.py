"""Students: energy of (numbers, positions, edges), in plain torch operations, smooth to third order."""
