// One frame's occupancy: of the voxels where some motion has matter, those that the frame's warp carries to any.
//
// The warp at the corners of voxels is interpolated along z, x and y, in that order and without fused operations, as in
// frame_occupancy.py: every instruction set keeps the same voxels.
#pragma once
#include <string.h>
#include <time.h>

#include "tile_job.hpp"

namespace {

inline int64_t now_ns() {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);  // being preempted does not count
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// The warp at node x, at all corners along z.
template <class L>
void expand_nodes(const FrameView& f, const OccupancyJob& job, int x, float* out) {
  const int y_end = job.low[1][job.hi[1]] + 2;
  for (int y = job.low[1][job.lo[1]]; y < y_end; y++) {
    const float* nodes = f.warp + (long)x * f.warp_stride_x + (long)y * f.warp_stride_y;
    float* rows = out + (long)y * 3 * job.row;
    for (int c = 0; c < job.cell_count; c++) {
      const float* node = nodes + 4 * job.low[2][job.cells[c]];
      // What lands beyond the cell's end is written again for the next cell, or is padding.
      for (int k = job.cells[c]; k < job.cells[c + 1]; k += L::W) {
        const auto fraction = L::load(job.fraction[2] + k);
        for (int axis = 0; axis < 3; axis++) {
          const auto from = L::set(node[axis]);
          L::store(rows + axis * job.row + k, from + (L::set(node[4 + axis]) - from) * fraction);
        }
      }
    }
  }
}

// Marks the corners of plane i that lie at matter.
template <class L>
void find_hits(const OccupancyJob& job, int i, const float* between, uint64_t* hits) {
  typedef typename L::F F;
  const int side = job.grid + 1;
  const F one = L::set(1.0f), half = L::set(job.matter_half), top = L::set(job.matter_top), zero = L::set(0.0f);
  const auto voxel = [&](F q) { return L::truncate(L::min(L::max((q + one) * half, zero), top)); };
  for (int j = job.lo[1]; j <= job.hi[1]; j++) {
    const uint64_t* wanted = job.corners + ((long)i * side + j) * job.corner_words;
    const float* rows = between + (long)job.low[1][j] * 3 * job.row;
    const F fraction = L::set(job.fraction[1][j]), x = L::set(job.place[i]), y = L::set(job.place[j]);
    for (int w = 0; w < job.corner_words; w++) {
      uint64_t found = 0;
      for (uint64_t left = wanted[w]; left;) {
        const int bit = __builtin_ctzll(left) / L::W * L::W, k = 64 * w + bit;
        left &= ~((((uint64_t)1 << L::W) - 1) << bit);
        F d[3];
        for (int axis = 0; axis < 3; axis++) {
          const F a = L::load(rows + axis * job.row + k), b = L::load(rows + (3 + axis) * job.row + k);
          d[axis] = a + (b - a) * fraction;
        }
        auto index = L::shift_left(voxel(x + d[0]), job.matter_bits) + voxel(y + d[1]);
        index = L::shift_left(index, job.matter_bits) + voxel(L::load(job.place + k) + d[2]);
        found |= (uint64_t)L::look_up_bits(job.matter, index) << bit;
      }
      hits[j * job.corner_words + w] = found;
    }
  }
}

// Eight bits to eight bytes of 0 or 1, the lowest first.
inline uint64_t spread(uint64_t bits) {
  const uint64_t each = (bits & 255) * 0x0101010101010101u & 0x8040201008040201u;
  return (each + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

// Distances of the occupied voxels of plane i, which lies between two planes of corners.
inline void mark_plane(const OccupancyJob& job, int i, const uint64_t* before, const uint64_t* after) {
  for (int j = job.lo[1]; j < job.hi[1]; j++) {
    const uint64_t* occupied = job.occupied + ((long)i * job.grid + j) * job.words;
    uint8_t* row = job.distance + (((long)i << job.grid_bits | j) << job.grid_bits);
    const int at = j * job.corner_words, next = at + job.corner_words;
    const auto hit = [&](int w) { return before[at + w] | before[next + w] | after[at + w] | after[next + w]; };
    for (int w = 0; w < job.words; w++) {
      if (!occupied[w]) continue;
      const uint64_t here = hit(w), beyond = w + 1 < job.corner_words ? hit(w + 1) : 0;
      const uint64_t dropped = occupied[w] & ~(here | here >> 1 | beyond << 63);
      for (uint64_t left = occupied[w]; left;) {  // eight voxels at a time
        const int bit = __builtin_ctzll(left) & ~7;
        left &= ~((uint64_t)255 << bit);
        uint64_t distances;
        memcpy(&distances, row + 64 * w + bit, 8);
        distances = (distances & ~(spread(occupied[w] >> bit) * 255)) | spread(dropped >> bit);
        memcpy(row + 64 * w + bit, &distances, 8);
      }
    }
  }
}

// Planes from <= x < to of voxels; scratch is the caller's own.
template <class L>
void keep_voxels(const FrameView& f, const OccupancyJob& job, OccupancyScratch scratch, int from, int to,
                 NlsStats& stats) {
  const int64_t mark = f.profile ? now_ns() : 0;
  const long row_from = 3 * job.low[1][job.lo[1]], row_end = 3 * (job.low[1][job.hi[1]] + 2), row_size = job.row;
  const long k_from = job.lo[2], k_last = job.hi[2];
  int have[2] = {-1, -1};  // which nodes along x are expanded
  for (int i = from; i <= to; i++) {
    const int x = job.low[0][i];
    for (int n = 0; n < 2; n++) {
      const int slot = (x + n) & 1;
      if (have[slot] != x + n) expand_nodes<L>(f, job, x + n, scratch.nodes[slot]);
      have[slot] = x + n;
    }
    const float *low = scratch.nodes[x & 1], *high = scratch.nodes[(x + 1) & 1];
    const auto fraction = L::set(job.fraction[0][i]);
    for (long row = row_from; row < row_end; row++)
      for (long k = row * row_size + k_from; k <= row * row_size + k_last; k += L::W) {
        const auto a = L::load(low + k);
        L::store(scratch.between + k, a + (L::load(high + k) - a) * fraction);
      }
    find_hits<L>(job, i, scratch.between, scratch.hits[i & 1]);
    if (i > from) mark_plane(job, i - 1, scratch.hits[(i - 1) & 1], scratch.hits[i & 1]);
  }
  if (f.profile) stats.occupancy_ns += now_ns() - mark;
}

}  // namespace
