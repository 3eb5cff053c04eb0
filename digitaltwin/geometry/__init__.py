"""Geometry of meshes, rotations and cameras: arrays in, arrays out; knows nothing of heads."""
