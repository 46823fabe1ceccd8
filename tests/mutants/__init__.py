"""One-line breaks of the promises, and proof that a test turns red for each: `make mutants`."""
