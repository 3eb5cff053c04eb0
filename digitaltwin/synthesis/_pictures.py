"""Pictures of scenes, in random light before a random background, and what is detected in them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from digitaltwin.geometry import project
from digitaltwin.geometry._camera import camera_points
from digitaltwin.geometry._normals import normalize
from digitaltwin.head import HeadModel, landmark_points, parts_vertices
from digitaltwin.head.markup import MESH_POINT_COUNT
from digitaltwin.perception import detect_landmarks
from digitaltwin.render import Lighting, head_meshes, render_mesh
from digitaltwin.render._head import HEAD_GLOSS
from digitaltwin.synthesis._scene import Scene
from digitaltwin.types import InputError


def render_scene(
    head: HeadModel,
    scene: Scene,
    texture: Float[Array, "size size 3"],
    eyes: Float[Array, "eye eye 3"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "h w 3"]:
    """Render the picture of one scene, in random light before a random background.

    Args:
        head: The model.
        scene: One scene.
        texture: Skin texture, sRGB; :meth:`SubjectAppearance.textures` draws it.
        eyes: Eye texture, sRGB.
        rng: Generator of light and background.

    Returns:
        The picture, sRGB in [0, 1].

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig, SubjectAppearance, draw_scene
        >>> head, subjects = load_head(), load_subjects()
        >>> rng = np.random.default_rng(0)
        >>> skin, eyes = SubjectAppearance(head, subjects).textures(3, rng)
        >>> render_scene(head, draw_scene(head, subjects, 3, 0, SceneConfig()), skin, eyes, rng).shape
        (576, 576, 3)
    """
    height, width = (int(edge) for edge in scene.image_size)
    neutral, expression = jnp.asarray(scene.neutral), jnp.asarray(scene.expression)
    parts = parts_vertices(head, neutral, expression)
    camera = jax.tree.map(jnp.asarray, scene.camera)
    top, bottom = rng.uniform(0.15, 0.95, (2, 3))
    bottom = bottom if rng.random() < 0.5 else top
    down = np.linspace(0, 1, height)[:, None, None]
    picture = render_mesh(
        head_meshes(
            head,
            camera_points(camera, jnp.asarray(scene.vertices)),
            camera_points(camera, parts),
            texture=texture,
            eye_texture=eyes,
        ),
        camera.focal_px,
        camera.principal_point_px,
        image_hw=(height, width),
        lighting=_draw_lighting(rng),
        background=jnp.asarray(np.broadcast_to(top + (bottom - top) * down, (height, width, 3)), jnp.float32),
        gloss=HEAD_GLOSS,
    )
    return np.asarray(picture.colour)


def _draw_lighting(rng: np.random.Generator) -> Lighting:
    """Draw a key light from anywhere in front, a weaker one from elsewhere, and surroundings."""
    directions = np.stack([rng.uniform(-1, 1, 2), rng.uniform(-0.9, 0.2, 2), [-0.8, -0.8]], axis=1)
    strengths = np.array([[rng.uniform(0.3, 0.8)], [rng.uniform(0.0, 0.3)]])
    tint = 1 + rng.uniform(-0.08, 0.08, (2, 3))
    around = rng.uniform(0.25, 0.5)
    return Lighting(
        normalize(jnp.asarray(directions, jnp.float32)),
        jnp.asarray(strengths * tint, jnp.float32),
        jnp.full(3, around, jnp.float32),
        jnp.full(3, around * rng.uniform(0.4, 0.8), jnp.float32),
    )


def detect_scene(scene: Scene, picture: Float[np.ndarray, "h w 3"]) -> Scene:
    """Detect landmarks, face mesh and expression in the picture of one scene.

    Args:
        scene: One scene.
        picture: Its picture, sRGB in [0, 1].

    Returns:
        The scene with what was detected; unchanged, ``found`` false, where there is no face.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig, SubjectAppearance, draw_scene
        >>> head, subjects = load_head(), load_subjects()
        >>> scene = draw_scene(head, subjects, 3, 0, SceneConfig())
        >>> bool(detect_scene(scene, np.full((576, 576, 3), 0.5, np.float32)).found)  # a grey picture
        False
    """
    try:
        face = detect_landmarks(picture)
    except InputError:
        return scene
    return scene._replace(
        found=np.array(True),
        landmarks_px=np.asarray(face.landmarks_px),
        mesh_px=np.asarray(face.mesh_px)[:, :2],
        detected_expression=np.asarray(face.scores),
    )


def oracle_detections(head: HeadModel, scene: Scene) -> Scene:
    """Fill one scene's detections with what networks without errors would find: oracle inputs of an ablation.

    Args:
        head: The model.
        scene: One scene.

    Returns:
        The scene with ``found`` true, the projected landmarks and mesh points, and its own expression. The ten points
        of the irises, which the head has no anchors for, are 0.

    Example:
        >>> import numpy as np
        >>> from digitaltwin.head import load_head, load_subjects
        >>> from digitaltwin.synthesis import SceneConfig, SubjectAppearance, draw_scene
        >>> head, subjects = load_head(), load_subjects()
        >>> scene = oracle_detections(head, draw_scene(head, subjects, 3, 0, SceneConfig()))
        >>> scene.landmarks_px.shape
        (104, 2)
    """
    camera = jax.tree.map(jnp.asarray, scene.camera)
    vertices = jnp.asarray(scene.vertices)
    mesh = np.zeros_like(scene.mesh_px)
    mesh[:MESH_POINT_COUNT] = project(camera, head.mesh_points.interpolate(vertices, head.faces))
    return scene._replace(
        found=np.array(True),
        landmarks_px=np.asarray(project(camera, landmark_points(head, vertices))),
        mesh_px=mesh,
        detected_expression=scene.expression,
    )
