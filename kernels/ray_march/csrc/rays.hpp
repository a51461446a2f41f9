// The rays a worker has in hand: made tile by tile, moved to their next occupied sample, accumulated, and written when they end.
//
// Positions are p = o + (near + (k + 0.5) step) d in float32, multiplied and added in that order without fused
// operations, in every instruction set and in reference.py: all of them look at the same points.
#pragma once
#include "lane_math.hpp"
#include "tile_job.hpp"

namespace {

struct alignas(64) Rays {
  typedef float Lane[kPoolRays + kPad];
  Lane dx, dy, dz, near, k, far, skip, pixel;  // skip: whole steps per voxel; pixel: y * width + x (< 2^24)
  Lane transmittance, r, g, b;
  Lane px, py, pz;  // the next samples
};

template <class L>
inline void slab(typename L::F d, float lo, float hi, float o, typename L::F& near, typename L::F& far) {
  const typename L::F safe = L::select(L::less(L::abs(d), L::set(1e-9f)), L::set(1e-9f), d);
  const typename L::F a = L::set(lo - o) / safe, b = L::set(hi - o) / safe;
  near = L::max(near, L::min(a, b));
  far = L::min(far, L::max(a, b));
}

// Appends the rays of one tile that can meet matter to the n in hand. Returns how many there are then.
template <class L>
int make_rays(const FrameView& f, int tile, Rays& s, int n) {
  typedef typename L::F F;
  const int tile_x = tile % f.tiles_x * kTileSide, tile_y = tile / f.tiles_x * kTileSide;
  const float* m = f.rotation;
  const F one = L::set(1.0f);
  const int before = n;
  for (int row = 0; row < kTileSide && tile_y + row < f.height; row++) {
    const int y = tile_y + row;
    const F v = (L::set((float)y) + L::set(0.5f) - L::set(f.cy)) / L::set(f.fy);
    for (int col = 0; col < kTileSide && tile_x + col < f.width; col += L::W) {
      const int x = tile_x + col;
      const F column = L::iota() + L::set((float)x);
      const F u = (column + L::set(0.5f) - L::set(f.cx)) / L::set(f.fx);
      const F scale = one / L::sqrt((u * u + v * v) + one);
      F d[3], near = L::set(0.0f), far = L::set(1e30f);
      for (int a = 0; a < 3; a++)
        d[a] = ((L::set(m[3 * a]) * u + L::set(m[3 * a + 1]) * v) + L::set(m[3 * a + 2])) * scale;
      for (int a = 0; a < 3; a++) slab<L>(d[a], f.box_lo[a], f.box_hi[a], f.origin[a], near, far);
      typename L::M in = L::both(L::less(near, far), L::first(f.width - x));
      if (!L::bits(in)) continue;
      // Start and end at whole steps around what the cell's map allows.
      const auto cell = L::truncate(column * L::set(1.0f / kCellSide));
      const int cell_row = y / kCellSide * f.cells_x;
      const auto index = L::min(cell, L::set(f.cells_x - 1));
      const F first = L::floor((L::gather(f.cell_near + cell_row, index) - near) * L::set(1.0f / f.step) - one);
      far = L::min(far, L::gather(f.cell_far + cell_row, index));
      const F k = L::max(first, L::set(0.0f));
      in = L::both(in, L::less(near + k * L::set(f.step), far));
      const F widest = L::max(L::max(L::abs(d[0]), L::abs(d[1])), L::abs(d[2]));
      const F skip = L::set(0.9999f) / (widest * L::set(f.step * f.grid_half));
      L::compress(s.dx + n, in, d[0]);
      L::compress(s.dy + n, in, d[1]);
      L::compress(s.dz + n, in, d[2]);
      L::compress(s.near + n, in, near);
      L::compress(s.k + n, in, k);
      L::compress(s.far + n, in, far);
      L::compress(s.skip + n, in, skip);
      n += L::compress(s.pixel + n, in, L::iota() + L::set((float)(y * f.width + x)));
    }
  }
  for (int i = before; i < n; i += L::W) {
    L::store(s.transmittance + i, one);
    L::store(s.r + i, L::set(0.0f));
    L::store(s.g + i, L::set(0.0f));
    L::store(s.b + i, L::set(0.0f));
  }
  return n;
}

// Writes the pixels of the lanes in `ended` of the packet at i.
template <class L>
inline void write_pixels(const FrameView& f, const Rays& s, int i, unsigned ended) {
  typedef typename L::F F;
  const F one = L::set(1.0f), transmittance = L::load(s.transmittance + i), alpha = one - transmittance;
  const F scale = L::select(L::less(L::set(f.termination), transmittance), one, one / alpha);
  alignas(64) float rgba[4][L::W];
  L::store(rgba[0], L::load(s.r + i) * scale);
  L::store(rgba[1], L::load(s.g + i) * scale);
  L::store(rgba[2], L::load(s.b + i) * scale);
  L::store(rgba[3], alpha * scale);
  for (; ended; ended &= ended - 1) {
    const int lane = __builtin_ctz(ended);
    float* pixel = f.out + (long)s.pixel[i + lane] * 4;
    for (int c = 0; c < 4; c++) pixel[c] = rgba[c][lane];
  }
}

template <class L>
struct Position {
  typename L::F t, x, y, z;
  Position(const FrameView& f, const Rays& s, int i, typename L::F k) {
    t = L::load(s.near + i) + (k + L::set(0.5f)) * L::set(f.step);
    x = L::set(f.origin[0]) + t * L::load(s.dx + i);
    y = L::set(f.origin[1]) + t * L::load(s.dy + i);
    z = L::set(f.origin[2]) + t * L::load(s.dz + i);
  }
};

template <class L>
inline typename L::I voxel(const FrameView& f, typename L::F x) {
  const auto i = L::truncate((x + L::set(1.0f)) * L::set(f.grid_half));
  return L::min(L::max(i, L::set(0)), L::set(f.grid - 1));
}

// Moves every ray to its next sample in an occupied voxel. Rays that have none are written and dropped, the others
// close up, so that sample i belongs to ray i. Returns how many are left.
template <class L>
int next_samples(const FrameView& f, Rays& s, int n, NlsStats& stats) {
  typedef typename L::F F;
  typedef typename L::M M;
  float* const lanes[] = {s.dx, s.dy, s.dz, s.near, s.k, s.far, s.skip, s.pixel, s.transmittance, s.r, s.g, s.b};
  int left = 0;
  for (int base = 0; base < n; base += L::W * kInterleave) {
    F k[kInterleave];
    M found[kInterleave], looking[kInterleave];
    for (int q = 0; q < kInterleave; q++) {
      const int i = base + q * L::W;
      k[q] = L::load(s.k + i);
      found[q] = L::none();
      looking[q] = L::first(n - i);
    }
    for (unsigned any = 1; any;) {
      any = 0;
#pragma GCC unroll 4
      for (int q = 0; q < kInterleave; q++) {
        const int i = base + q * L::W;
        const Position<L> p(f, s, i, k[q]);
        looking[q] = L::both(looking[q], L::less(p.t, L::load(s.far + i)));
        const auto column = L::shift_left(L::shift_left(voxel<L>(f, p.x), f.grid_bits) + voxel<L>(f, p.y), f.grid_bits);
        const auto distance = L::gather_bytes(f.distance, column + voxel<L>(f, p.z), looking[q]);
        const M hit = L::both(looking[q], L::is_zero(distance));
        found[q] = L::either(found[q], hit);
        looking[q] = L::only(looking[q], hit);
        // Everything within distance - 1 voxels is empty.
        const F steps = L::floor((L::to_float(distance) - L::set(1.0f)) * L::load(s.skip + i)) + L::set(1.0f);
        k[q] = L::select(looking[q], k[q] + steps, k[q]);
        any |= L::bits(looking[q]);
      }
      stats.march_steps += kInterleave;
    }
    for (int q = 0; q < kInterleave && base + q * L::W < n; q++) {
      const int i = base + q * L::W;
      const Position<L> p(f, s, i, k[q]);
      L::store(s.k + i, k[q]);
      const unsigned keep = L::bits(found[q]), ended = L::bits(L::first(n - i)) & ~keep;
      if (ended) write_pixels<L>(f, s, i, ended);
      L::compress(s.px + left, found[q], p.x);
      L::compress(s.py + left, found[q], p.y);
      L::compress(s.pz + left, found[q], p.z);
      if (ended || left != i)
        for (float* lane : lanes)
          L::compress(lane + left, found[q], L::load(lane + i));
      left += __builtin_popcount(keep);
    }
  }
  return left;
}

// Adds sample i to ray i (raw outputs: 4 arrays, `stride` apart) and steps on; opaque rays end.
template <class L>
void composite(const FrameView& f, Rays& s, const float* raw, int stride, int n) {
  typedef typename L::F F;
  const F one = L::set(1.0f), scale = L::set(-f.density_step), termination = L::set(f.termination);
  for (int i = 0; i < n; i += L::W) {
    const F alpha = one - exponential<L>(scale * softplus<L>(L::load(raw + i) - one));
    const F before = L::load(s.transmittance + i), weight = alpha * before, after = before - weight;
    L::store(s.r + i, L::fma(weight, sigmoid<L>(L::load(raw + stride + i)), L::load(s.r + i)));
    L::store(s.g + i, L::fma(weight, sigmoid<L>(L::load(raw + 2 * stride + i)), L::load(s.g + i)));
    L::store(s.b + i, L::fma(weight, sigmoid<L>(L::load(raw + 3 * stride + i)), L::load(s.b + i)));
    L::store(s.transmittance + i, after);
    L::store(s.k + i, L::load(s.k + i) + one);
    L::store(s.far + i, L::select(L::less(termination, after), L::load(s.far + i), L::set(-1.0f)));
  }
}

}  // namespace
