"""Shared training parts that know no model by name."""
