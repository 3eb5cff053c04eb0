#!/usr/bin/env bash
# libigl's EmbreeIntersector reports a finite distance for a ray that meets nothing: only the face, -1, tells.
#
# What one would guess: intersectRay_first(origin, direction, tnear=0, tfar=inf) returns the face, the distance and two
# barycentric coordinates, and for a miss the far end of the ray, infinity, as Embree itself leaves it.
# What happens: a miss is (-1, 1.4e306, ...), with coordinates that are NaN or 0. The distance is no infinity and no NaN,
# so isfinite(distance), the usual test for a hit, calls every miss one.
# Why it matters: which vertices of a head can be seen from outside is counted by rays that get away; by the distance
# none would, and everything would be hidden.
#
# Seen with libigl 2.6.3 and numpy 2.4.6 on 2026-11-28. Run: bash findings/igl_ray_miss_is_finite.sh; exits 1 if this has
# changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -qq "libigl==2.6.3" "numpy==2.4.6"

cat > "$folder/program.py" << 'PYTHON'
import igl.embree
import numpy as np

corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
triangle = igl.embree.EmbreeIntersector()
triangle.init(corners, np.array([[0, 1, 2]], np.int32))

above = np.array([0.2, 0.2, 1.0], np.float32)
cases = {
    "towards the triangle": (above, np.array([0, 0, -1], np.float32)),
    "away from it": (above, np.array([0, 0, 1], np.float32)),
    "past it": (above + np.float32(5.0), np.array([0, 0, -1], np.float32)),
}
print(f"{'ray':22s} {'face':>4s} {'distance':>12s}  isfinite")
found = {}
for name, ray in cases.items():
    face, distance, *_ = found[name] = triangle.intersectRay_first(*ray)
    print(f"{name:22s} {face:4d} {distance:12.4g}  {np.isfinite(distance)}")

hit, *misses = found.values()
as_described = hit[0] == 0 and abs(hit[1] - 1) < 1e-6 and all(face == -1 and np.isfinite(t) for face, t, *_ in misses)
raise SystemExit(0 if as_described else "this has changed: a miss is told by its distance now, or a hit is not")
PYTHON
"$folder/env/bin/python" "$folder/program.py"
