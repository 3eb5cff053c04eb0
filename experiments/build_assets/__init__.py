"""How the shipped assets are made from their public sources, one module a kind of asset."""
