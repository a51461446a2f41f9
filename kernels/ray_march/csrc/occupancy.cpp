#include "occupancy.hpp"

#include <algorithm>

void FrameOccupancy::prepare(const NlsField& field, int grid_bits, uint8_t* distance, int workers) {
  const size_t voxels = static_cast<size_t>(field.grid) * field.grid * field.grid;
  wanted_ = field.matter && std::any_of(field.occupancy, field.occupancy + voxels, [](uint8_t v) { return v != 0; });
  if (!wanted_) return;
  workers_ = workers;
  job_.grid = field.grid;
  job_.grid_bits = grid_bits;
  job_.distance = distance;
  job_.words = (field.grid + 63) / 64;
  job_.corner_words = (field.grid + 1 + 63) / 64;
  job_.row = (field.grid + 1 + 2 * kMaxLanes) / kMaxLanes * kMaxLanes;
  pack_occupied(field);
  pack_matter(field);
  const auto row = static_cast<size_t>(job_.row);
  place_.resize(row);
  for (int i = 0; i <= field.grid; i++)
    place_.get()[i] = static_cast<float>(i) * (2.0f / static_cast<float>(field.grid)) - 1.0f;
  job_.place = place_.get();
  for (int axis = 0; axis < 3; axis++) {
    low_[axis].resize(row);
    fraction_[axis].resize(row);
    job_.low[axis] = low_[axis].get();
    job_.fraction[axis] = fraction_[axis].get();
  }
  hits_.resize(static_cast<size_t>(workers) * 2 * (field.grid + 1) * job_.corner_words);
}

void FrameOccupancy::pack_occupied(const NlsField& field) {
  const int grid = field.grid, side = grid + 1;
  occupied_.resize(static_cast<size_t>(grid) * grid * job_.words);
  corners_.resize(static_cast<size_t>(side) * side * job_.corner_words);
  std::fill(job_.lo, job_.lo + 3, grid);
  std::fill(job_.hi, job_.hi + 3, 0);
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++) {
        if (!field.occupancy[(static_cast<size_t>(x) * grid + y) * grid + z]) continue;
        occupied_.get()[(static_cast<size_t>(x) * grid + y) * job_.words + z / 64] |= uint64_t{1} << (z % 64);
        const int at[3] = {x, y, z};
        for (int axis = 0; axis < 3; axis++) {
          job_.lo[axis] = std::min(job_.lo[axis], at[axis]);
          job_.hi[axis] = std::max(job_.hi[axis], at[axis] + 1);
        }
        for (int corner = 0; corner < 8; corner++) {
          const int i = x + (corner >> 2), j = y + (corner >> 1 & 1), k = z + (corner & 1);
          corners_.get()[(static_cast<size_t>(i) * side + j) * job_.corner_words + k / 64] |= uint64_t{1} << (k % 64);
        }
      }
  job_.occupied = occupied_.get();
  job_.corners = corners_.get();
}

void FrameOccupancy::pack_matter(const NlsField& field) {
  const int grid = field.matter_grid;
  int bits = 0;
  while (1 << bits < grid) bits++;
  matter_.resize(((size_t{1} << (3 * bits)) + 31) / 32);
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++) {
        const int bit = (x << bits | y) << bits | z;
        if (field.matter[(static_cast<size_t>(x) * grid + y) * grid + z]) matter_.get()[bit / 32] |= 1u << (bit % 32);
      }
  job_.matter = matter_.get();
  job_.matter_bits = bits;
  job_.matter_half = 0.5f * static_cast<float>(grid);
  job_.matter_top = static_cast<float>(grid - 1);
}

const OccupancyJob& FrameOccupancy::lay_out(const NlsFrame& frame, const FrameView& view) {
  for (int axis = 0; axis < 3; axis++)
    for (int i = 0; i <= job_.grid; i++) {
      const float where = (place_.get()[i] - view.warp_lo[axis]) * view.warp_scale[axis];
      const float inside = std::min(std::max(where, 0.0f), view.warp_max[axis]);
      const int low = std::min(static_cast<int>(inside), view.warp_last[axis]);
      low_[axis].get()[i] = low;
      fraction_[axis].get()[i] = inside - static_cast<float>(low);
    }
  find_cells();
  if (frame.warp_nodes[1] > nodes_y_) {
    nodes_y_ = frame.warp_nodes[1];
    floats_.resize(static_cast<size_t>(workers_) * 3 * nodes_y_ * 3 * job_.row);
  }
  return job_;
}

// Corners lie in order, and so do the cells they lie in.
void FrameOccupancy::find_cells() {
  cells_.clear();
  for (int k = job_.lo[2]; k <= job_.hi[2]; k++)
    if (cells_.empty() || job_.low[2][k] != job_.low[2][k - 1]) cells_.push_back(k);
  job_.cell_count = static_cast<int>(cells_.size());
  cells_.push_back(job_.hi[2] + 1);
  job_.cells = cells_.data();
}

OccupancyScratch FrameOccupancy::scratch(int worker) {
  const auto plane = static_cast<size_t>(nodes_y_) * 3 * job_.row;
  const auto hits = static_cast<size_t>(job_.grid + 1) * job_.corner_words;
  float* floats = floats_.get() + static_cast<size_t>(worker) * 3 * plane;
  uint64_t* bits = hits_.get() + static_cast<size_t>(worker) * 2 * hits;
  return {{floats, floats + plane}, floats + 2 * plane, {bits, bits + hits}};
}
