"""Networks: a catalog of names, and one builder for each family."""
