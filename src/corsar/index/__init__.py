"""Which items may be worth scoring: indexes over the catalogue, built from an artifact alone."""
