"""Scenes: one file of analytic, mesh and learned shapes, with parameters."""

from sdfnet.scenes.build import BuiltNode as BuiltNode
from sdfnet.scenes.build import build_scene as build_scene
from sdfnet.scenes.build import describe_field as describe_field
from sdfnet.scenes.build import scene_of as scene_of
from sdfnet.scenes.extract import ExtractedScene as ExtractedScene
from sdfnet.scenes.extract import extract_built as extract_built
from sdfnet.scenes.extract import extract_scene as extract_scene
from sdfnet.scenes.extract import render_scene as render_scene
from sdfnet.scenes.kinds import KINDS as KINDS
from sdfnet.scenes.morph import morph_scene as morph_scene
from sdfnet.scenes.node import Node as Node
from sdfnet.scenes.node import Parameter as Parameter
from sdfnet.scenes.node import SceneFile as SceneFile
from sdfnet.scenes.scene_file import format_scene as format_scene
from sdfnet.scenes.scene_file import load_scene as load_scene
from sdfnet.scenes.scene_file import parse_scene as parse_scene
from sdfnet.scenes.scene_file import save_scene as save_scene
