"""How the shipped assets are made from their public sources, one module a kind of asset."""

STAGES = ("networks", "head", "skins", "anchors", "subjects", "bias", "scan", "listing")
"""What is built, in this order."""
