#include "near_far.hpp"

#include <algorithm>
#include <cmath>

namespace {
constexpr int kBlock = 4;       // voxels per side
constexpr float kMissed = 1e30f;
constexpr float kSlack = 1e-4f;  // rounding of positions
}  // namespace

Blocks find_blocks(const uint8_t* occupancy, int grid) {
  const int side = (grid + kBlock - 1) / kBlock;
  const auto at = [side](int x, int y, int z) { return (static_cast<size_t>(x) * side + y) * side + z; };
  std::vector<uint8_t> filled(static_cast<size_t>(side) * side * side, 0);
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++)
        if (occupancy[(static_cast<size_t>(x) * grid + y) * grid + z]) filled[at(x / kBlock, y / kBlock, z / kBlock)] = 1;
  const auto is_filled = [&](int x, int y, int z) {
    return std::min({x, y, z}) >= 0 && std::max({x, y, z}) < side && filled[at(x, y, z)];
  };
  Blocks blocks;
  const float width = 2.0f * kBlock / static_cast<float>(grid);
  blocks.radius = width * 0.5f * std::sqrt(3.0f) + kSlack;
  for (int x = 0; x < side; x++)
    for (int y = 0; y < side; y++)
      for (int z = 0; z < side; z++) {
        const bool inside = is_filled(x - 1, y, z) && is_filled(x + 1, y, z) && is_filled(x, y - 1, z) &&
                            is_filled(x, y + 1, z) && is_filled(x, y, z - 1) && is_filled(x, y, z + 1);
        if (is_filled(x, y, z) && !inside)
          blocks.surface.push_back({{(static_cast<float>(x) + 0.5f) * width - 1.0f,
                                     (static_cast<float>(y) + 0.5f) * width - 1.0f,
                                     (static_cast<float>(z) + 0.5f) * width - 1.0f}});
      }
  return blocks;
}

void project_blocks(const Blocks& blocks, const FrameView& f, int cells_x, int cells_y, float* near, float* far) {
  const int cells = cells_x * cells_y;
  std::fill(near, near + cells, kMissed);
  std::fill(far, far + cells, -1.0f);
  const float r = blocks.radius, *m = f.rotation;
  for (const Block& block : blocks.surface) {
    const float d[3] = {block.centre[0] - f.origin[0], block.centre[1] - f.origin[1], block.centre[2] - f.origin[2]};
    const float x = m[0] * d[0] + m[3] * d[1] + m[6] * d[2], y = m[1] * d[0] + m[4] * d[1] + m[7] * d[2];
    const float z = m[2] * d[0] + m[5] * d[1] + m[8] * d[2];
    if (z - r < 1e-3f) {
      std::fill(near, near + cells, 0.0f);
      std::fill(far, far + cells, kMissed);
      return;
    }
    // A point p of the sphere projects within r sqrt(x^2 + z^2) / (z (z - r)) of x / z:
    // |p_x / p_z - x / z| = |(p_x - x) z - x (p_z - z)| / (z p_z).
    const float u = x / z * f.fx + f.cx, reach_u = f.fx * r * std::sqrt(x * x + z * z) / (z * (z - r));
    const float v = y / z * f.fy + f.cy, reach_v = f.fy * r * std::sqrt(y * y + z * z) / (z * (z - r));
    const auto cell = [](float pixel, int count) {
      return static_cast<int>(std::floor(std::clamp(pixel / kCellSide, -1.0f, static_cast<float>(count))));
    };
    // Pixel centres: p + 0.5 lies within [u - reach, u + reach].
    const int x0 = std::max(0, cell(u - reach_u - 0.51f, cells_x));
    const int x1 = std::min(cells_x - 1, cell(u + reach_u - 0.49f, cells_x));
    const int y0 = std::max(0, cell(v - reach_v - 0.51f, cells_y));
    const int y1 = std::min(cells_y - 1, cell(v + reach_v - 0.49f, cells_y));
    const float t = std::sqrt(x * x + y * y + z * z), t0 = t - r - kSlack, t1 = t + r + kSlack;
    for (int cy = y0; cy <= y1; cy++)
      for (int cx = x0; cx <= x1; cx++) {
        float& cell_near = near[cy * cells_x + cx];
        float& cell_far = far[cy * cells_x + cx];
        cell_near = std::min(cell_near, t0);
        cell_far = std::max(cell_far, t1);
      }
  }
}
