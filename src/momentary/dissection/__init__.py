"""What the units of a trained network answer to, and whether the data can support saying so."""
