"""The Blender scene: head, hair, clothes, camera and five lights; posed and rendered frame by frame. Imports `bpy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from scripts.capture.camera import DISTANCE, HALF_VIEW, opengl_camera_matrix
from scripts.capture.clothes import Mesh, below_collar, collar, eyeball, torso
from scripts.capture.hair import POINTS, hair_strands
from scripts.capture.head import (
    EYE_SOCKETS,
    GUMS_AND_TONGUE,
    HEAD_AND_NECK,
    MOUTH_SOCKET,
    TEETH,
    HeadRig,
)
from scripts.capture.materials import COLOR, LIP, make_materials
from scripts.capture.plan import FramePlan
from scripts.capture.shapes import Array, Index
from scripts.capture.skin import skin_colors
from scripts.capture.store import LABEL_STEP
from scripts.capture.strands import BROW_POINTS, LASH_POINTS, brows, lashes

SENSOR_MM: Final = 36.0
HEAD_PARTS: Final = ("skin", "mouth", "sock", "gum", "teeth")  # material of each region, in vertex order
AIMED_AT: Final = (0, 2, 3.0)  # by every light
LIGHTS: Final = (  # name, position, watts, diameter, color
    ("key", (-48, 42, 72), 128_000, 46, (1.0, 0.95, 0.89)),
    ("fill", (62, 12, 62), 30_000, 60, (0.90, 0.95, 1.0)),
    ("front", (6, 4, 84), 11_000, 34, (1.0, 0.98, 0.95)),
    ("rim_right", (58, 45, -62), 95_000, 34, (1.0, 0.96, 0.92)),
    ("rim_left", (-62, 30, -55), 52_000, 34, (0.92, 0.96, 1.0)),
)
SKY, SKY_STRENGTH = (0.75, 0.80, 0.88, 1), 0.24
BlenderObject = Any  # bpy ships no types


class Stage:
    """The scene of one person. Only one can exist in a process: making it empties Blender's file."""

    def __init__(self, rig: HeadRig, *, size_px: int, samples: int, seed: int, folder: Path) -> None:
        """`folder` takes the pictures of the last frame: `picture.png` and `label_0001.png`."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._rig, self._folder = rig, folder
        scene = bpy.context.scene
        _set_sampling(scene, samples, seed)
        _set_output(scene, size_px)
        _set_masks(scene, folder)
        materials = make_materials()
        self._head = _add_head(rig, materials)
        self._eyes = [_add_mesh(f"eye{k}", eyeball(), [materials["eye"]]) for k in range(2)]
        self._hair = _add_curves("hair", hair_strands(rig), _taper(0.050, 0.75, POINTS, 2.5), materials["hair"])
        self._bound = []
        for name, strands, taper in (
            ("brow", brows(rig), _taper(0.030, 0.75, BROW_POINTS)),
            ("lash", lashes(rig), _taper(0.030, 0.85, LASH_POINTS)),
        ):
            self._bound.append((strands, _add_curves(name, strands.points(rig.rest), taper, materials[name])))
        _add_mesh("torso", torso(), [materials["cloth"]])
        _add_mesh("collar", collar(rig), [materials["rib"]])
        self._camera = _add_camera(scene)
        for light in LIGHTS:
            _add_light(*light)
        _add_sky(scene)

    def render(self, frame: FramePlan, names: tuple[str, ...]) -> tuple[Path, Path]:
        """Render a frame; returns its RGBA picture and its mask (labels times LABEL_STEP)."""
        self._camera.matrix_world = Matrix(opengl_camera_matrix(frame.cam_yaw_deg, frame.cam_pitch_deg))
        self._pose(dict(zip(names, frame.coefficients, strict=True)), np.array(frame.head_rotvec), frame.gaze)
        scene = bpy.context.scene
        scene.frame_current = 1
        picture, mask = self._folder / "picture.png", self._folder / "label_0001.png"
        for file in (picture, mask):
            file.unlink(missing_ok=True)  # the last frame's must never pass for this one's
        scene.render.filepath = str(picture)
        bpy.ops.render.render(write_still=True)
        return picture, mask

    def _pose(self, coefficients: Mapping[str, float], rotvec: Array, gaze: tuple[float, float]) -> None:
        vertices, matrix = self._rig.posed(self._rig.expressed(coefficients), rotvec)
        mesh = self._head.data
        mesh.vertices.foreach_set("co", vertices[:TEETH].astype("f4").ravel())
        mesh.update()
        look = Rotation.from_euler("xy", [-gaze[1], gaze[0]]).as_matrix()
        for (center, radius), eye in zip(self._rig.eyes, self._eyes, strict=True):
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = look * radius, center
            eye.matrix_world = Matrix(matrix @ local)
        self._hair.matrix_world = Matrix(matrix)
        for strands, curves in self._bound:
            curves.data.position_data.foreach_set("vector", strands.points(vertices).astype("f4").ravel())
            curves.data.update_tag()


def _set_sampling(scene: Any, samples: int, seed: int) -> None:
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, seed
    cycles.use_adaptive_sampling, cycles.adaptive_threshold, cycles.adaptive_min_samples = True, 0.03, 8
    cycles.use_denoising, cycles.denoiser, cycles.denoising_prefilter = True, "OPENIMAGEDENOISE", "FAST"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 1, 1
    cycles.transmission_bounces, cycles.transparent_max_bounces = 0, 4
    cycles.caustics_reflective = cycles.caustics_refractive = cycles.use_light_tree = False
    cycles.sample_clamp_indirect = 4
    scene.cycles_curves.shape, scene.cycles_curves.subdivisions = "RIBBONS", 2


def _set_output(scene: Any, size_px: int) -> None:
    render = scene.render
    render.use_persistent_data = render.film_transparent = True
    render.threads_mode, render.threads = "FIXED", 1
    render.resolution_x = render.resolution_y = size_px
    render.resolution_percentage = 100
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGBA"
    render.image_settings.compression = 30
    scene.view_settings.view_transform = "Filmic"
    scene.view_settings.look = "Medium High Contrast"
    scene.view_settings.exposure = -0.05


def _set_masks(scene: Any, folder: Path) -> None:
    """Write each pixel's material index, times LABEL_STEP, beside the picture."""
    scene.view_layers[0].use_pass_material_index = True
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    layers = tree.nodes.new("CompositorNodeRLayers")
    tree.links.new(layers.outputs["Image"], tree.nodes.new("CompositorNodeComposite").inputs["Image"])
    scale = tree.nodes.new("CompositorNodeMath")
    scale.operation = "MULTIPLY"
    scale.inputs[1].default_value = LABEL_STEP / 255.0
    tree.links.new(layers.outputs["IndexMA"], scale.inputs[0])
    file = tree.nodes.new("CompositorNodeOutputFile")
    file.base_path, file.file_slots[0].path = str(folder), "label_"
    file.format.file_format, file.format.color_mode, file.format.color_depth = "PNG", "BW", "8"
    file.format.color_management = "OVERRIDE"
    file.format.view_settings.view_transform = "Raw"
    tree.links.new(scale.outputs[0], file.inputs[0])


def _add_head(rig: HeadRig, materials: Mapping[str, Any]) -> BlenderObject:
    """Skin, mouth, gums and teeth as one mesh, without what the sweater hides."""
    region = np.zeros(TEETH, np.int64)
    for k, first in enumerate((HEAD_AND_NECK, MOUTH_SOCKET, EYE_SOCKETS, GUMS_AND_TONGUE), 1):
        region[first:] = k
    faces = rig.mesh.faces[rig.mesh.faces.max(1) < TEETH]
    part = region[faces[:, 0]]
    shown = ~(below_collar(rig, faces[:, 0]) & (part == 0))
    colors, lip = skin_colors(rig)
    mesh = Mesh(rig.rest[:TEETH], faces[shown], colors[:TEETH])
    head = _add_mesh("head", mesh, [materials[name] for name in HEAD_PARTS], part[shown])
    head.data.attributes.new(LIP, "FLOAT", "POINT").data.foreach_set("value", lip[:TEETH].astype("f4"))
    return head


def _add_mesh(name: str, mesh: Mesh, materials: list[Any], part: Index | None = None) -> BlenderObject:
    data = bpy.data.meshes.new(name)
    data.vertices.add(len(mesh.vertices))
    data.vertices.foreach_set("co", mesh.vertices.astype("f4").ravel())
    corners = (mesh.faces >= 0).sum(1)
    data.loops.add(int(corners.sum()))
    data.polygons.add(len(mesh.faces))
    data.loops.foreach_set("vertex_index", mesh.faces[mesh.faces >= 0].astype("i4"))
    data.polygons.foreach_set("loop_start", np.concatenate([[0], np.cumsum(corners)[:-1]]).astype("i4"))
    for material in materials:
        data.materials.append(material)
    if part is not None:
        data.polygons.foreach_set("material_index", part.astype("i4"))
    data.update(calc_edges=True)
    data.polygons.foreach_set("use_smooth", np.ones(len(mesh.faces), bool))
    data.update()
    colors = np.concatenate([mesh.colors, np.ones((len(mesh.colors), 1))], 1)
    data.attributes.new(COLOR, "FLOAT_COLOR", "POINT").data.foreach_set("color", colors.astype("f4").ravel())
    return _link(bpy.data.objects.new(name, data))


def _add_curves(name: str, points: Array, radius: NDArray[np.float64], material: Any) -> BlenderObject:
    """Hair curves from points (N, K, 3) and a radius (K,) along each."""
    count, along, _ = points.shape
    data = bpy.data.hair_curves.new(name)
    data.add_curves([along] * count)
    data.position_data.foreach_set("vector", points.astype("f4").ravel())
    attribute = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
    attribute.data.foreach_set("value", np.broadcast_to(radius, (count, along)).astype("f4").ravel())
    data.materials.append(material)
    return _link(bpy.data.objects.new(name, data))


def _taper(root: float, loss: float, points: int, power: float = 1.0) -> Array:
    """Radius along a hair: `root` at the root, less by the share `loss` at the tip."""
    return np.asarray(root * (1 - loss * np.linspace(0, 1, points) ** power))


def _add_camera(scene: Any) -> BlenderObject:
    data = bpy.data.cameras.new("cam")
    data.sensor_width, data.clip_end = SENSOR_MM, 500
    data.lens = SENSOR_MM * DISTANCE / (2 * HALF_VIEW)
    camera = _link(bpy.data.objects.new("cam", data))
    scene.camera = camera
    return camera


def _add_light(
    name: str, position: tuple[float, ...], watts: float, size: float, color: tuple[float, float, float]
) -> None:
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color, data.shape = watts, size, color, "DISK"
    z = np.array(position, float) - np.array(AIMED_AT)
    z /= np.linalg.norm(z)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = x, np.cross(z, x), z, position
    _link(bpy.data.objects.new(name, data)).matrix_world = Matrix(matrix)


def _add_sky(scene: Any) -> None:
    world = bpy.data.worlds.new("sky")
    scene.world = world
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs[0].default_value, background.inputs[1].default_value = SKY, SKY_STRENGTH
    world.cycles.sampling_method = "NONE"


def _link(item: BlenderObject) -> BlenderObject:
    bpy.context.collection.objects.link(item)
    return item
