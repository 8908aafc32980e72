"""Systems of the literature, one file each."""
