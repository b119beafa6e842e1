"""Did seeing it matter? What in a picture moves people at each moment, and how sure we are."""
