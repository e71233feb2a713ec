"""Students: energies of atoms from elements and edge vectors, in plain torch operations, smooth to third order."""
