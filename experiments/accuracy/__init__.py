"""How near the avatar of one picture comes to the person."""
