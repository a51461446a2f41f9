// What is kept of a field and of a frame to find the frame's own occupancy (keep_voxels.hpp).
#pragma once
#include <vector>

#include "aligned_buffer.hpp"
#include "tile_job.hpp"

class FrameOccupancy {
 public:
  // Prepares for a field that says where it has matter; `distance` is its distance field, which frames change.
  void prepare(const NlsField& field, int grid_bits, uint8_t* distance, int workers);
  // Whether the field said so, and any voxel is occupied.
  bool wanted() const { return wanted_; }
  // Lays out one frame's work, for the warp in `frame`.
  const OccupancyJob& lay_out(const NlsFrame& frame, const FrameView& view);
  OccupancyScratch scratch(int worker);

 private:
  void pack_occupied(const NlsField& field);
  void pack_matter(const NlsField& field);
  void find_cells();

  bool wanted_ = false;
  int workers_ = 0, nodes_y_ = 0;
  OccupancyJob job_{};
  AlignedBuffer<uint64_t> occupied_, corners_, hits_;
  AlignedBuffer<uint32_t> matter_;
  AlignedBuffer<float> place_, fraction_[3], floats_;
  AlignedBuffer<int> low_[3];
  std::vector<int> cells_;
};
