// One avatar's field, prepared for one instruction set, with the memory and threads its frames need.
#pragma once
#include <vector>

#include "aligned_buffer.hpp"
#include "near_far.hpp"
#include "occupancy.hpp"
#include "tile_job.hpp"
#include "worker_pool.hpp"

struct NlsScene {
  NlsScene(const NlsField& field, const KernelTable& table, int threads);
  void render(const NlsFrame& frame, float* out, NlsStats& stats);
  // (G, G, G), 1 where the frame's rays take samples.
  void occupancy(const NlsFrame& frame, uint8_t* kept);

 private:
  void copy_planes(const NlsField& field);
  void build_distance(const uint8_t* occupancy, int grid);
  void set_camera(const NlsFrame& frame);
  void set_warp(const NlsFrame& frame);
  void set_occupancy(const NlsFrame& frame);

  const KernelTable& table_;
  FrameView view_{};
  float warp_lo_[3], warp_hi_[3];
  Blocks blocks_;
  AlignedBuffer<PackedNet> net_;
  AlignedBuffer<FixedNet> fixed_;
  AlignedBuffer<uint16_t> planes_;
  AlignedBuffer<int16_t> planes_fixed_;
  AlignedBuffer<float> planes_f32_;
  AlignedBuffer<uint8_t> distance_;
  FrameOccupancy occupancy_;
  AlignedBuffer<float> warp_;
  AlignedBuffer<float> cells_;
  std::vector<AlignedBuffer<uint8_t>> scratch_;  // one per worker
  std::vector<NlsStats> worker_stats_;
  WorkerPool pool_;
};

// Packs the MLP for `chunk` outputs at a time (scene_pack.cpp).
void pack_net(const NlsField& field, int chunk, PackedNet& net);
// Packs it for fixed point, and the planes with the first layer applied; the biases of a frame and what depends on them,
// false if they do not fit (fixed_pack.cpp).
void pack_fixed(const NlsField& field, const KernelTable& table, FixedNet& net, AlignedBuffer<int16_t>& planes);
bool fit_biases(const NlsFrame& frame, FixedNet& net);
float half_to_float(uint16_t half);
// Chebyshev distance in voxels, at most 255, to the nearest occupied voxel; strides as in FrameView (scene_pack.cpp).
void chebyshev_distance(const uint8_t* occupancy, int grid, int bits, uint8_t* distance);
