from ._appearance import SubjectAppearance as SubjectAppearance
from ._config import SceneConfig as SceneConfig
from ._drawing import draw_scene as draw_scene
from ._pictures import render_scene as render_scene
from ._scenes import make_scenes as make_scenes
