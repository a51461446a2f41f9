// Input of the MLP at a list of positions: warp, then three bilinear plane fetches.
#pragma once
#include "tile_job.hpp"

namespace {

// Grid coordinate clamped to 0..max, split into the lower node (at most `last`) and the fraction.
template <class L>
inline typename L::I split(typename L::F u, float max, int last, typename L::F& fraction) {
  u = L::min(L::max(u, L::set(0.0f)), L::set(max));
  const auto low = L::min(L::truncate(u), L::set(last));
  fraction = u - L::to_float(low);
  return low;
}

// Moves a packet of positions into canonical space.
template <class L>
inline void warp_packet(const FrameView& f, typename L::F (&p)[3], int count) {
  typename L::F fraction[3], d[3];
  typename L::I node[3];
  for (int a = 0; a < 3; a++)
    node[a] = split<L>((p[a] - L::set(f.warp_lo[a])) * L::set(f.warp_scale[a]), f.warp_max[a], f.warp_last[a],
                       fraction[a]);
  alignas(64) int32_t x[L::W], y[L::W], z[L::W];
  alignas(64) float fx[L::W], fy[L::W], fz[L::W], moved[4 * L::W];
  L::store(x, node[0]);
  L::store(y, node[1]);
  L::store(z, L::shift_left(node[2], 2));
  L::store(fx, fraction[0]);
  L::store(fy, fraction[1]);
  L::store(fz, fraction[2]);
  const int sx = f.warp_stride_x, sy = f.warp_stride_y;
  for (int i = 0; i < count; i++)
    L::fetch_warp(f.warp + x[i] * sx + y[i] * sy + z[i], sx, sy, fx[i], fy[i], fz[i], moved + 4 * i);
  L::load_xyz(moved, d[0], d[1], d[2]);
  for (int a = 0; a < 3; a++) p[a] += d[a];
}

// Where a packet's samples lie in the three planes: the offset of the lower texel, and the weights of the texels
// (0,0) (0,1) (1,0) (1,1) of (row, column), W apart.
template <class L, class Net>
struct Quads {
  alignas(64) int32_t offset[3][L::W];
  alignas(64) typename Net::Weight weight[3][4 * L::W];
};

template <class L, class Net>
inline void find_quads(const FrameView& f, const typename L::F (&p)[3], Quads<L, Net>& quads) {
  typedef typename L::F F;
  constexpr int kColumn[3] = {0, 2, 0}, kRow[3] = {1, 1, 2};
  const int side = f.plane_side;
  const float half = 0.5f * (float)(side - 1);
  F fraction[3];
  typename L::I texel[3];
  for (int a = 0; a < 3; a++)
    texel[a] = split<L>((p[a] + L::set(1.0f)) * L::set(half), (float)(side - 1), side - 2, fraction[a]);
  for (int plane = 0; plane < 3; plane++) {
    const F fc = fraction[kColumn[plane]], fr = fraction[kRow[plane]];
    const F c0 = L::set(1.0f) - fc, r0 = L::set(1.0f) - fr;
    Net::store_weight(quads.weight[plane], r0 * c0);
    Net::store_weight(quads.weight[plane] + L::W, r0 * fc);
    Net::store_weight(quads.weight[plane] + 2 * L::W, fr * c0);
    Net::store_weight(quads.weight[plane] + 3 * L::W, fr * fc);
    // The texel's index fits float exactly (3 * 1024^2 < 2^24), so the product needs no integer multiply.
    const F index = (L::to_float(texel[kRow[plane]]) + L::set((float)(plane * side))) * L::set((float)side) +
                    L::to_float(texel[kColumn[plane]]);
    L::store(quads.offset[plane], L::shift_left(L::truncate(index), Net::kTexelBits));
  }
}

// The MLP's input rows for n positions; what a row holds is the Net's own.
template <class L, class Net>
void make_features(const FrameView& f, const float* px, const float* py, const float* pz, int n,
                   typename Net::Act* x) {
  Quads<L, Net> quads;
  for (int i = 0; i < n; i += L::W) {
    const int count = n - i < L::W ? n - i : L::W;
    typename L::F p[3] = {L::load(px + i), L::load(py + i), L::load(pz + i)};
    warp_packet<L>(f, p, count);
    find_quads<L, Net>(f, p, quads);
    for (int s = 0; s < count; s++) Net::fetch(f, quads, s, x + (long)(i + s) * Net::kRow);
  }
}

// One texel quad of one plane, weighted: 16 channels.
template <class L>
inline void fetch_plane(const typename L::Plane* texel, int row, const float* weight, int lane,
                        typename L::F* out) {
#pragma GCC unroll 4
  for (int v = 0; v < kChannels / L::W; v++) {
    const typename L::Plane* p = texel + v * L::W;
    const typename L::F low = L::fma(L::load_plane(p + kChannels), L::set(weight[L::W + lane]),
                                     L::load_plane(p) * L::set(weight[lane]));
    const typename L::F high = L::fma(L::load_plane(p + row + kChannels), L::set(weight[3 * L::W + lane]),
                                      L::load_plane(p + row) * L::set(weight[2 * L::W + lane]));
    out[v] = low + high;
  }
}

// What nets of floating-point inputs share: 48 features from planes of 16 channels.
template <class L, class Net, class Activation>
struct FloatInputs {
  typedef Activation Act;
  typedef float Weight;
  static constexpr int kTexelBits = 4;  // log2 of a texel's channels

  static void store_weight(float* p, typename L::F w) { L::store(p, w); }
  static void fetch(const FrameView& f, const Quads<L, Net>& quads, int s, Act* out) {
    constexpr int kVectors = kChannels / L::W;
    const auto* planes = L::planes(f);
    const int row = f.plane_side * kChannels;
    typename L::F v[3 * kVectors];
#pragma GCC unroll 3
    for (int plane = 0; plane < 3; plane++)
      fetch_plane<L>(planes + quads.offset[plane][s], row, quads.weight[plane], s, v + plane * kVectors);
    Net::store_features(out, v);
  }
};

}  // namespace
