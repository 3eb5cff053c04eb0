"""The shipped subjects beside published measurements of adults."""
