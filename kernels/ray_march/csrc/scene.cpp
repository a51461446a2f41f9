#include "scene.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace {

constexpr int kSlabs = 4;  // per worker, where there are several: slabs of voxels differ in work

// Hands each tile, or slab, to one worker.
struct TileSource {
  int tiles;
  std::atomic<int> taken{0};
  explicit TileSource(int count) : tiles(count) {}
  static int next(void* self) {
    TileSource& source = *static_cast<TileSource*>(self);
    const int tile = source.taken.fetch_add(1, std::memory_order_relaxed);
    return tile < source.tiles ? tile : -1;
  }
};

}  // namespace

NlsScene::NlsScene(const NlsField& field, const KernelTable& table, int threads)
    : table_(table), net_(1), pool_(threads) {
  pack_net(field, (table.exact ? table.exact : &table)->chunk, *net_.get());
  copy_planes(field);
  if (table.exact) {
    fixed_.resize(1);
    pack_fixed(field, table, *fixed_.get(), planes_fixed_);
    view_.fixed = fixed_.get();
    view_.planes_fixed = planes_fixed_.get();
  }
  build_distance(field.occupancy, field.grid);
  blocks_ = find_blocks(field.occupancy, field.grid);
  occupancy_.prepare(field, view_.grid_bits, distance_.get(), pool_.workers());
  std::memcpy(view_.box_lo, field.box_lo, sizeof view_.box_lo);
  std::memcpy(view_.box_hi, field.box_hi, sizeof view_.box_hi);
  std::memcpy(warp_lo_, field.warp_lo, sizeof warp_lo_);
  std::memcpy(warp_hi_, field.warp_hi, sizeof warp_hi_);
  view_.step = field.step;
  view_.termination = field.termination;
  view_.density_step = field.density_scale * field.step;
  view_.net = net_.get();
  const size_t scratch = std::max(table.scratch_bytes, table.exact ? table.exact->scratch_bytes : 0ul);
  for (int i = 0; i < pool_.workers(); i++) scratch_.emplace_back(scratch);
  worker_stats_.resize(static_cast<size_t>(pool_.workers()));
}

void NlsScene::copy_planes(const NlsField& field) {
  const size_t count = 3u * static_cast<size_t>(field.plane_side) * static_cast<size_t>(field.plane_side) * kChannels;
  if (table_.planes_f32) {
    planes_f32_.resize(count);
    for (size_t i = 0; i < count; i++) planes_f32_.get()[i] = half_to_float(field.planes[i]);
  } else {
    planes_.resize(count);
    std::memcpy(planes_.get(), field.planes, count * sizeof(uint16_t));
  }
  view_.planes = planes_.get();
  view_.planes_f32 = planes_f32_.get();
  view_.plane_side = field.plane_side;
}

void NlsScene::build_distance(const uint8_t* occupancy, int grid) {
  int bits = 3;  // rows of eight voxels at least: they are marked eight at a time
  while (1 << bits < grid) bits++;
  distance_.resize(static_cast<size_t>(1) << (3 * bits));
  chebyshev_distance(occupancy, grid, bits, distance_.get());
  view_.distance = distance_.get();
  view_.grid = grid;
  view_.grid_bits = bits;
  view_.grid_half = 0.5f * static_cast<float>(grid);
}

void NlsScene::set_camera(const NlsFrame& frame) {
  for (int row = 0; row < 3; row++) {
    for (int col = 0; col < 3; col++) view_.rotation[3 * row + col] = frame.cam_to_canonical[4 * row + col];
    view_.origin[row] = frame.cam_to_canonical[4 * row + 3];
  }
  view_.fx = frame.fx;
  view_.fy = frame.fy;
  view_.cx = frame.cx;
  view_.cy = frame.cy;
  view_.height = frame.height;
  view_.width = frame.width;
  view_.tiles_x = (frame.width + kTileSide - 1) / kTileSide;
  view_.tiles = view_.tiles_x * ((frame.height + kTileSide - 1) / kTileSide);
  const int cells_x = (frame.width + kCellSide - 1) / kCellSide, cells_y = (frame.height + kCellSide - 1) / kCellSide;
  const size_t cells = static_cast<size_t>(cells_x) * static_cast<size_t>(cells_y);
  if (cells_.size() < 2 * cells) cells_.resize(2 * cells);
  project_blocks(blocks_, view_, cells_x, cells_y, cells_.get(), cells_.get() + cells);
  view_.cells_x = cells_x;
  view_.cell_near = cells_.get();
  view_.cell_far = cells_.get() + cells;
}

void NlsScene::set_warp(const NlsFrame& frame) {
  size_t nodes = 1;
  for (int axis = 0; axis < 3; axis++) {
    const int count = frame.warp_nodes[axis];
    nodes *= static_cast<size_t>(count);
    view_.warp_lo[axis] = warp_lo_[axis];
    view_.warp_scale[axis] = static_cast<float>(count - 1) / (warp_hi_[axis] - warp_lo_[axis]);
    view_.warp_max[axis] = static_cast<float>(count - 1);
    view_.warp_last[axis] = count - 2;
  }
  view_.warp_stride_y = 4 * frame.warp_nodes[2];
  view_.warp_stride_x = view_.warp_stride_y * frame.warp_nodes[1];
  if (warp_.size() < 4 * nodes) warp_.resize(4 * nodes);
  float* to = warp_.get();
  for (size_t i = 0; i < nodes; i++)
    for (size_t axis = 0; axis < 3; axis++) to[4 * i + axis] = frame.warp[3 * i + axis];
  view_.warp = to;
}

// The distance field stays that of all motions, except that voxels this frame does not need are at 1: the nearest
// occupied voxel is never nearer than it says.
void NlsScene::set_occupancy(const NlsFrame& frame) {
  if (!occupancy_.wanted()) return;
  const OccupancyJob& job = occupancy_.lay_out(frame, view_);
  const int planes = job.hi[0] - job.lo[0];
  const int slabs = pool_.workers() == 1 ? 1 : std::min(planes, kSlabs * pool_.workers());
  TileSource source{slabs};
  pool_.run([&](int worker) {
    for (int slab = TileSource::next(&source); slab >= 0; slab = TileSource::next(&source))
      table_.keep_voxels(view_, job, occupancy_.scratch(worker), job.lo[0] + planes * slab / slabs,
                         job.lo[0] + planes * (slab + 1) / slabs, worker_stats_[static_cast<size_t>(worker)]);
  });
}

void NlsScene::occupancy(const NlsFrame& frame, uint8_t* kept) {
  set_warp(frame);
  view_.profile = 0;
  set_occupancy(frame);
  const int grid = view_.grid, bits = view_.grid_bits;
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++) *kept++ = distance_.get()[((x << bits | y) << bits) | z] == 0;
}

void NlsScene::render(const NlsFrame& frame, float* out, NlsStats& stats) {
  set_camera(frame);
  set_warp(frame);
  view_.profile = frame.profile;
  for (NlsStats& s : worker_stats_) s = NlsStats{};
  set_occupancy(frame);
  std::memcpy(net_.get()->b1, frame.bias1, sizeof net_.get()->b1);
  std::memcpy(net_.get()->b2, frame.bias2, sizeof net_.get()->b2);
  const KernelTable& table = table_.exact && !fit_biases(frame, *fixed_.get()) ? *table_.exact : table_;
  view_.out = out;
  std::memset(out, 0, sizeof(float) * 4 * static_cast<size_t>(frame.height) * static_cast<size_t>(frame.width));
  TileSource source{view_.tiles};
  pool_.run([&](int worker) {
    const auto index = static_cast<size_t>(worker);
    table.render_tiles(view_, TileSource::next, &source, scratch_[index].get(), worker_stats_[index]);
  });
  stats = NlsStats{};
  for (const NlsStats& s : worker_stats_) {
    stats.samples += s.samples;
    stats.rays += s.rays;
    stats.march_steps += s.march_steps;
    stats.occupancy_ns += s.occupancy_ns;
    stats.march_ns += s.march_ns;
    stats.features_ns += s.features_ns;
    stats.mlp_ns += s.mlp_ns;
    stats.composite_ns += s.composite_ns;
  }
}
