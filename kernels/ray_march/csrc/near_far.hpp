// Per-cell bounds on where along its rays matter can lie, from the occupied blocks of the volume.
#pragma once
#include <cstdint>
#include <vector>

#include "tile_job.hpp"

struct Block {
  float centre[3];
};

// Blocks of 4^3 voxels on the surface of the occupied volume, and the radius of a sphere around one.
struct Blocks {
  std::vector<Block> surface;
  float radius = 0.0f;
};

Blocks find_blocks(const uint8_t* occupancy, int grid);

// Fills near and far, (cells_y, cells_x), for the camera in `frame`. A ray of a cell meets no occupied voxel before
// near or after far. When a block is beside or behind the camera nothing is bounded.
void project_blocks(const Blocks& blocks, const FrameView& frame, int cells_x, int cells_y, float* near, float* far);
