"""From wheels and sdists to the files pip would install."""
