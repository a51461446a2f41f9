"""Ray marching of the avatar's radiance field: tri-plane features, a small MLP, a per-frame warp."""

from kernels.native import CpuInfo, cpu_info
from kernels.ray_march.arrays import FieldArrays, FrameInputs
from kernels.ray_march.cpu_impl import RenderStats
from kernels.ray_march.op import RayMarcher

__all__ = ["CpuInfo", "FieldArrays", "FrameInputs", "RayMarcher", "RenderStats", "cpu_info"]
