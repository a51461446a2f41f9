"""Blender materials of skin, mouth, eyes, hair and cloth. Imports `bpy`.

Colors come from the vertex attribute `Col`; other names break the look, because the shaders read it by name. Each
material's pass index is its label in the masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import bpy

Tree = Any  # Blender's node tree and sockets: bpy ships no types
Socket = Any
Shader = Any
Build = Callable[[Tree, Shader], None]
Color = tuple[float, float, float]

COLOR: Final = "Col"
LIP: Final = "lip"
SUBSURFACE: Final = 0.4
HAIR: Final = (0.085, 0.042, 0.022)
BROW: Final = (0.062, 0.033, 0.019)
LASH: Final = (0.012, 0.008, 0.006)
IRIS_RADIUS, PUPIL_RADIUS = 0.51, 0.215  # in radii of the eye
HEAD, TORSO, MOUTH = 1, 2, 3  # labels


def make_materials() -> dict[str, Any]:
    """All materials by name."""
    table: dict[str, tuple[int, Build]] = {
        "skin": (HEAD, _skin),
        "mouth": (MOUTH, _plain(0.35, glow=0.06)),
        "sock": (HEAD, _plain(0.5)),
        "gum": (MOUTH, _plain(0.28, glow=0.09)),
        "teeth": (MOUTH, _plain(0.25, 0.45, glow=0.03)),
        "eye": (HEAD, _eye),
        "hair": (HEAD, _hair(HAIR, 0.38, 0.5)),
        "brow": (HEAD, _hair(BROW, 0.55, 0.4)),
        "lash": (HEAD, _hair(LASH, 0.5, 0.1)),
        "cloth": (TORSO, _cloth(2.2, 0.35)),
        "rib": (TORSO, _cloth(3.0, 0)),
    }
    return {name: _material(name, label, build) for name, (label, build) in table.items()}


def _material(name: str, label: int, build: Build) -> Any:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    build(material.node_tree, material.node_tree.nodes["Principled BSDF"])
    material.pass_index = label
    return material


def _set(shader: Shader, **values: Any) -> None:
    """Inputs of the principled shader by name, blanks written as underscores."""
    for name, value in values.items():
        shader.inputs[name.replace("_", " ")].default_value = value


def _skin(tree: Tree, shader: Shader) -> None:
    tree.links.new(_attribute(tree, COLOR), shader.inputs["Base Color"])
    _set(shader, Subsurface_Weight=SUBSURFACE, Subsurface_Radius=(1.0, 0.35, 0.2), Subsurface_Scale=0.30)
    shader.subsurface_method = "RANDOM_WALK"
    lip = _attribute(tree, LIP, "Fac")
    tree.links.new(_math(tree, "MULTIPLY_ADD", lip, -0.16, 0.50), shader.inputs["Roughness"])
    _set(shader, Specular_IOR_Level=0.40)


def _plain(rough: float, specular: float = 0.5, glow: float = 0.0) -> Build:
    """Vertex colors; `glow` makes up for the light that four bounces do not carry into a mouth."""

    def build(tree: Tree, shader: Shader) -> None:
        tree.links.new(_attribute(tree, COLOR), shader.inputs["Base Color"])
        _set(shader, Roughness=rough, Specular_IOR_Level=specular, Coat_Weight=0, Coat_Roughness=0.12)
        tree.links.new(_attribute(tree, COLOR), shader.inputs["Emission Color"])
        _set(shader, Emission_Strength=glow)

    return build


def _eye(tree: Tree, shader: Shader) -> None:
    """Iris with fibers, pupil, limbal ring and a reddening white, by distance from the optical axis."""
    radius, around = _polar(tree)
    fibers = _noise(tree, around, 7.0, 3)
    iris = _mix(
        tree, _step(tree, radius, PUPIL_RADIUS, IRIS_RADIUS * 0.95), (0.10, 0.045, 0.014), (0.055, 0.032, 0.014)
    )
    iris = _mix(tree, _math(tree, "MULTIPLY_ADD", fibers, 1.4, -0.55, clamp=True), iris, (0.17, 0.095, 0.04))
    iris = _mix(tree, _step(tree, radius, IRIS_RADIUS * 0.78, IRIS_RADIUS), iris, (0.012, 0.015, 0.014))
    pupil = _step(tree, radius, PUPIL_RADIUS + 0.03, PUPIL_RADIUS - 0.01)
    iris = _mix(tree, pupil, iris, (0.003, 0.003, 0.003))
    white = _mix(tree, _step(tree, radius, 0.55, 0.95), (0.80, 0.77, 0.74), (0.72, 0.50, 0.44))
    color = _mix(tree, _step(tree, radius, IRIS_RADIUS - 0.02, IRIS_RADIUS + 0.03), iris, white)
    tree.links.new(color, shader.inputs["Base Color"])
    _set(shader, Roughness=0.35, Specular_IOR_Level=0.3, Coat_Weight=1.0, Coat_Roughness=0.03, Coat_IOR=1.38)


def _polar(tree: Tree) -> tuple[Socket, Socket]:
    """Distance from the optical axis in eye radii, and a vector that varies around it (for the fibers)."""
    place = tree.nodes.new("ShaderNodeTexCoord")
    split = tree.nodes.new("ShaderNodeSeparateXYZ")
    tree.links.new(place.outputs["Object"], split.inputs[0])
    x, y, _ = split.outputs
    squares = _math(tree, "ADD", _math(tree, "MULTIPLY", x, x), _math(tree, "MULTIPLY", y, y))
    radius = _math(tree, "SQRT", squares)
    angle = _math(tree, "ARCTAN2", y, x)
    vector = tree.nodes.new("ShaderNodeCombineXYZ")
    parts = (_math(tree, "COSINE", angle), _math(tree, "SINE", angle), _math(tree, "MULTIPLY", radius, 0.9))
    for i, part in enumerate(parts):
        tree.links.new(part, vector.inputs[i])
    return radius, vector.outputs[0]


def _hair(color: Color, rough: float, variety: float) -> Build:
    """Strands of varying brightness, darker at the root."""

    def build(tree: Tree, shader: Shader) -> None:
        info = tree.nodes.new("ShaderNodeHairInfo")
        random = _math(tree, "MULTIPLY_ADD", info.outputs["Random"], variety, 1 - variety * 0.5)
        along = _math(tree, "MULTIPLY_ADD", info.outputs["Intercept"], 0.55, 0.60)
        shade = _mix(tree, 1.0, color, _math(tree, "MULTIPLY", random, along), "MULTIPLY")
        tree.links.new(shade, shader.inputs["Base Color"])
        _set(shader, Roughness=rough, Specular_IOR_Level=0.35, Specular_Tint=(0.9, 0.65, 0.45, 1))

    return build


def _cloth(scale: float, bumps: float) -> Build:
    def build(tree: Tree, shader: Shader) -> None:
        tree.links.new(_attribute(tree, COLOR), shader.inputs["Base Color"])
        _set(shader, Roughness=0.9, Specular_IOR_Level=0.12)
        if bumps > 0:
            place = tree.nodes.new("ShaderNodeTexCoord")
            bump = tree.nodes.new("ShaderNodeBump")
            _set(bump, Strength=bumps, Distance=0.15)
            tree.links.new(_noise(tree, place.outputs["Object"], scale, 1), bump.inputs["Height"])
            tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])

    return build


def _attribute(tree: Tree, name: str, output: str = "Color") -> Socket:
    node = tree.nodes.new("ShaderNodeAttribute")
    node.attribute_name = name
    return node.outputs[output]


def _noise(tree: Tree, vector: Socket, scale: float, detail: float) -> Socket:
    node = tree.nodes.new("ShaderNodeTexNoise")
    _set(node, Scale=scale, Detail=detail)
    tree.links.new(vector, node.inputs["Vector"])
    return node.outputs["Fac"]


def _math(tree: Tree, operation: str, *values: Any, clamp: bool = False) -> Socket:
    node = tree.nodes.new("ShaderNodeMath")
    node.operation, node.use_clamp = operation, clamp
    for i, value in enumerate(values):
        _feed(tree, node.inputs[i], value)
    return node.outputs[0]


def _mix(tree: Tree, share: Any, a: Any, b: Any, blend: str = "MIX") -> Socket:
    node = tree.nodes.new("ShaderNodeMix")
    node.data_type, node.blend_type = "RGBA", blend
    for slot, value in ((0, share), (6, a), (7, b)):
        _feed(tree, node.inputs[slot], (*value, 1) if isinstance(value, tuple) else value)
    return node.outputs[2]


def _step(tree: Tree, value: Socket, low: float, high: float) -> Socket:
    node = tree.nodes.new("ShaderNodeMapRange")
    node.interpolation_type = "SMOOTHSTEP"
    tree.links.new(value, node.inputs[0])
    node.inputs[1].default_value, node.inputs[2].default_value = low, high
    return node.outputs[0]


def _feed(tree: Tree, target: Socket, value: Any) -> None:
    """A constant into a socket, or a link to it."""
    if isinstance(value, int | float | tuple):
        target.default_value = value
    else:
        tree.links.new(value, target)
