// What one tile of one frame reads, and the table of functions each instruction set provides.
//
// Only plain structs and constants here: this header is compiled with several -m flags, and an inline function
// emitted with the widest of them could be the copy the linker keeps for all.
#pragma once
#include "abi.h"

constexpr int kChannels = 16;
constexpr int kFeatures = 3 * kChannels;
constexpr int kHidden = 64;
constexpr int kOutputs = 4;
constexpr int kTileSide = 16;  // pixels
constexpr int kTileRays = kTileSide * kTileSide;
constexpr int kRefillRays = 160;  // with fewer rays left, a worker takes another tile: batches stay full
constexpr int kPoolRays = kRefillRays + kTileRays;
constexpr int kCellSide = 8;  // pixels: cells of the near/far map
constexpr int kMaxLanes = 16;
constexpr int kInterleave = 4;  // packets marched together, to hide the latency of the look-up
constexpr int kPad = kMaxLanes * kInterleave;

// The MLP's weights, packed by scene.cpp for the chunk width (outputs held in registers) of an instruction set.
struct alignas(64) PackedNet {
  float w1[kFeatures * kHidden];  // [chunk][input][output in chunk]
  float w2[kHidden * kHidden];
  float w3[kHidden * kOutputs];               // [input / 4][output][input % 4]
  uint32_t w1_pairs[kFeatures / 2 * kHidden];  // bf16 pairs of inputs: [input / 2][output]
  uint32_t w2_pairs[kHidden / 2 * kHidden];
  uint32_t w3_pairs[kHidden / 2 * kOutputs];  // [input / 8][output][(input / 2) % 4]
  float b1[kHidden], b2[kHidden], b3[kOutputs];
};

// The MLP in fixed point, packed by fixed_pack.cpp. A real number is its integer times a unit; each channel of the
// hidden layers and each output has its own.
struct alignas(64) FixedNet {
  int16_t w2[kHidden * kHidden];    // [chunk][place / 2][output in chunk][place % 2] of inputs
  int16_t rise2[kHidden * kHidden];  // the positive ones, [input][output]
  double w3_real[kOutputs * kHidden];  // [output][input], times the unit of the second layer's sums
  double unit1[kHidden], unit2[kHidden];
  int32_t reach1[kHidden];  // no sum of texels is further from 0, in units of the channel
  int32_t top1[kHidden];    // ... or larger
  int32_t place1[kHidden];  // where in a texel and a row each channel is stored
  int32_t place2[kHidden];  // ... and each output of the second layer in its row
  float b3[kOutputs];
  // of a frame
  alignas(64) int16_t b1[kHidden];
  alignas(64) int32_t b2[kHidden];
  alignas(64) int32_t shift2[kHidden];       // the second layer's sums lose so many bits, and fit 16
  alignas(64) int16_t w3[kHidden * kOutputs];  // [place / 8][output][place % 8]
  float unit3[kOutputs];
};

struct FrameView {
  // camera
  float rotation[9], origin[3], fx, fy, cx, cy;
  int height, width, tiles_x, tiles;
  // march
  float box_lo[3], box_hi[3], step, termination, density_step;
  float grid_half;      // G / 2
  int grid, grid_bits;  // voxel [x][y][z] of the distance field lies at ((x << bits | y) << bits) | z
  const uint8_t* distance;     // Chebyshev distance to the nearest occupied voxel, in voxels; 3 bytes of padding
  const float* cell_near;      // (cells_y, cells_x) distance along rays at which matter may begin
  const float* cell_far;       // ... and must have ended; near > far where there is none
  int cells_x;
  // field
  float warp_lo[3], warp_scale[3], warp_max[3];
  int warp_last[3], warp_stride_x, warp_stride_y;  // strides in floats
  const float* warp;  // nodes padded to 4 floats
  const uint16_t* planes;
  const float* planes_f32;  // only for instruction sets without half conversion
  const int16_t* planes_fixed;  // (3, R, R, 64): the first layer's products with the texels; only for fixed point
  int plane_side;
  const PackedNet* net;
  const FixedNet* fixed;
  // results
  float* out;
  int profile;
};

// What one frame's occupancy is made from. Corners of voxels are numbered 0..G along each axis.
struct OccupancyJob {
  int grid, grid_bits;       // as in FrameView
  int words, corner_words;   // 64-bit words of a row along z of voxels, and of corners
  int lo[3], hi[3];          // voxels lo <= i < hi bound the occupied ones
  const uint64_t* occupied;  // (G, G, words) bits: where any motion has matter
  const uint64_t* corners;   // (G + 1, G + 1, corner_words) bits: the corners of those voxels
  const uint32_t* matter;    // bit [x][y][z] is number ((x << matter_bits | y) << matter_bits) | z
  int matter_bits;
  float matter_half, matter_top;  // C / 2, C - 1
  const float* place;             // of corners; all rows of corners are padded
  const int* low[3];              // the warp's node below a corner, along each axis
  const float* fraction[3];       // and how far from it towards the next
  const int* cells;               // first corners along z of the warp's cells, and the end of the last
  int cell_count;
  int row;                        // floats of a padded row of corners
  uint8_t* distance;              // of occupied voxels becomes 0 where kept, 1 where not
};

// A worker's memory for it.
struct OccupancyScratch {
  float* nodes[2];    // the warp at two of its nodes along x: (nodes along y, 3, row)
  float* between;     // at a corner's x
  uint64_t* hits[2];  // (G + 1, corner_words) bits of two planes of corners: those at matter
};

// Keeps or drops the occupied voxels of from <= x < to.
typedef void KeepVoxels(const FrameView& frame, const OccupancyJob& job, OccupancyScratch scratch, int from, int to,
                        NlsStats& stats);

struct KernelTable {
  int isa;
  int chunk;         // outputs per chunk of the packed weights
  int lanes;         // of float in a vector
  bool planes_f32;   // wants FrameView::planes_f32
  const KernelTable* exact;  // for fixed point: renders the frames whose biases do not fit; null otherwise
  unsigned long scratch_bytes;
  // Renders tiles until next_tile(source) returns a negative number.
  void (*render_tiles)(const FrameView& frame, int (*next_tile)(void* source), void* source, void* scratch,
                       NlsStats& stats);
  KeepVoxels* keep_voxels;
  int64_t (*peak)(int64_t rounds);
  void (*composite_i420)(const float* rgba, const uint8_t* underlay, int height, int width, uint8_t* out);
};

// Defined in isa_*.cpp; CMake sets NLS_X86 where it builds the x86 ones.
extern const KernelTable kPortableTable;
#if NLS_X86
// Those of AVX-512 as well: rows are some ten voxels long, wider lanes would be half empty.
KeepVoxels keep_voxels_avx2;
extern const KernelTable kAvx2Table, kAvx2I16Table, kAvx512Table, kAvx512I16Table, kAvx512Bf16Table;
#endif
