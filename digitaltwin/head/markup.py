"""Names and layouts: the 52 ARKit expressions, the 104 landmarks and the points of the 468-point face mesh behind them.

The 104 landmarks follow the paper's order (its section 4.1, 1-based there, 0-based here):

======= ========= =====================================================================================
indices group     order
======= ========= =====================================================================================
0-16    contour   along the jaw from the subject's right ear over the chin (8) to the left ear
17-21   brow      right, from its outer to its inner end, along the middle of the hair
22-26   brow      left, from its inner to its outer end
27-46   left eye  the lid loop from the outer corner (27) over the lower lid to the inner corner (37) and back
47-66   right eye likewise, outer corner 47, inner corner 57
67-72   nose      the ridge from between the eyes to the tip (72)
73-81   nose      the lower rim from the right wing over the base of the septum (77) to the left wing
82-83   nose      right and left of the tip
84-95   mouth     outer lip loop: right corner (84), upper lip, left corner (90), lower lip
96-103  mouth     inner lip loop, likewise: right corner 96, left corner 100
======= ========= =====================================================================================

Left and right are the subject's.
"""

import numpy as np

ARKIT_EXPRESSIONS: tuple[str, ...] = tuple(
    """browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight
    mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft
    mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut""".split()
)
"""The 52 expressions of ARKit, in the order of ``HeadModel.expressions`` and of all expression coefficients."""

INTERIOR_PARTS = ("mouth_sock", "eye_sockets")
"""The parts that share the skin's texture; their rims are the skin's own."""

CONTOUR = np.arange(0, 17)
BROWS = np.arange(17, 27)
LEFT_EYE = np.arange(27, 47)
RIGHT_EYE = np.arange(47, 67)
NOSE = np.arange(67, 84)
MOUTH = np.arange(84, 104)
LANDMARK_COUNT = 104

LEFT_EYE_OUTER, LEFT_EYE_INNER, RIGHT_EYE_OUTER, RIGHT_EYE_INNER = 27, 37, 47, 57
NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT = 72, 84, 90

LANDMARK_MIRROR = np.concatenate(
    [
        16 - np.arange(17),
        26 - np.arange(10),
        RIGHT_EYE,
        LEFT_EYE,
        67 + np.arange(6),
        81 - np.arange(9),
        [83, 82],
        84 + (6 - np.arange(12)) % 12,
        96 + (4 - np.arange(8)) % 8,
    ]
)
"""Left-right partner of each landmark."""

ALIGNMENT = np.array(
    [RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER, NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT]
)
"""The seven landmarks of the paper's rough alignment: eye corners, nose tip, mouth corners."""

# Loops and lines of the 468-point face mesh (MediaPipe's canonical topology, Apache-2.0).
MESH_RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
MESH_LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
MESH_OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
MESH_INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
MESH_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148,
             176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
MESH_JAW = (
    234,
    93,
    132,
    58,
    172,
    136,
    150,
    149,
    176,
    148,
    152,
    377,
    400,
    378,
    379,
    365,
    397,
    288,
    361,
    323,
    454,
)
MESH_RIGHT_BROW = ((70, 46), (63, 53), (105, 52), (66, 65), (107, 55))
MESH_LEFT_BROW = ((336, 285), (296, 295), (334, 282), (293, 283), (300, 276))
MESH_NOSE = (168, 6, 197, 195, 5, 4, 129, 64, 98, 97, 2, 326, 327, 294, 358, 45, 275)
MESH_MOUTH = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178)
MESH_POINT_COUNT = 468
"""Points of the face mesh on the skin; 468 to 477 are the irises."""
