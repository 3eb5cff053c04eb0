"""The fit of a head to landmarks: benchmark beside general solvers, and verification of its steps."""
