"""What a checked run found: as a value, as text, and as a picture."""
