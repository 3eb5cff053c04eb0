"""Scenes without a residual, and a folder of them as networks without errors would see them; nothing is rendered."""

import pytest

from digitaltwin.head import load_subjects
from digitaltwin.synthesis import SceneConfig
from digitaltwin.synthesis._drawing import draw_scene, draw_subjects
from digitaltwin.synthesis._pictures import oracle_detections
from digitaltwin.synthesis._scenes import save_scene


@pytest.fixture(scope="session")
def config():
    return SceneConfig(count=8, residual_mm=0.0)


@pytest.fixture(scope="session")
def scenes(head, config):
    subjects = load_subjects()
    chosen = draw_subjects(subjects, config)
    return [draw_scene(head, subjects, int(chosen[number]), number, config) for number in range(config.count)]


@pytest.fixture(scope="session")
def folder(head, scenes, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("renders")
    for number, scene in enumerate(scenes):
        save_scene(folder / f"render-{number:03d}.npz", oracle_detections(head, scene), number, config)
    return folder
