// The MLP in fixed point: 16-bit factors, 32-bit sums (vpmaddwd).
//
// The first layer is linear in the texels, and so is the bilinear fetch: the layer is applied to every texel when the
// scene is made, and a fetch of 64 channels yields its sums. Units and proofs that nothing overflows: fixed_pack.cpp.
#pragma once
#include "mlp.hpp"

namespace {

template <class L, class H>  // lanes of float, and of short integers
struct NetFixed {
  typedef int16_t Act;
  typedef int32_t Weight;  // twice the same 16 bits
  static constexpr int kRow = kHidden, kTexelBits = 6;
  static constexpr int S = H::kBlockSamples, V = H::kBlockVectors, kChunk = V * L::W;

  static void store_weight(int32_t* p, typename L::F w) {
    const auto q = L::truncate(w * L::set(32767.0f) + L::set(0.5f));
    L::store(p, q + L::shift_left(q, 16));
  }

  // First hidden layer of one sample.
  static void fetch(const FrameView& f, const Quads<L, NetFixed>& quads, int s, int16_t* out) {
    constexpr int kVectors = kHidden / H::W;
    const int row = f.plane_side * kHidden;
    typename L::I sum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) sum[v] = H::load(f.fixed->b1 + v * H::W);
#pragma GCC unroll 3
    for (int plane = 0; plane < 3; plane++) {
      const int16_t* texel = f.planes_fixed + quads.offset[plane][s];
      const int16_t* const texels[4] = {texel, texel + kHidden, texel + row, texel + row + kHidden};
#pragma GCC unroll 4
      for (int t = 0; t < 4; t++) {
        const auto weight = L::set(quads.weight[plane][t * L::W + s]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sum[v] = H::add_scaled(sum[v], H::load(texels[t] + v * H::W), weight);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) H::store(out + v * H::W, H::positive(sum[v]));
  }

  // Bit p: some of S samples' channels 2 p and 2 p + 1 is not 0.
  static uint32_t live_pairs(const int16_t* x) {
    uint32_t live = 0;
#pragma GCC unroll 4
    for (int v = 0; v < kHidden / H::W; v++) {
      auto any = H::load(x + v * H::W);
#pragma GCC unroll 12
      for (int s = 1; s < S; s++) any = H::either(any, H::load(x + s * kHidden + v * H::W));
      live |= H::pairs_not_zero(any) << (v * H::W / 2);
    }
    return live;
  }

  // Second hidden layer of S samples, 16 bits again; rows in the order of FixedNet::place2. Pairs of channels that are 0
  // in all of them add nothing and are left out: a fourth of them, as channels that are 0 together are pairs.
  static void dense(const FixedNet& net, const int16_t* x, int16_t* y) {
    const uint32_t live = live_pairs(x);
    for (int chunk = 0; chunk < kHidden; chunk += kChunk) {
      typename L::I acc[S][V];
#pragma GCC unroll 12
      for (int s = 0; s < S; s++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[s][v] = H::load(net.b2 + chunk + v * L::W);
      for (uint32_t left = live; left; left &= left - 1) {
        const int pair = __builtin_ctz(left);
        const int16_t* w = net.w2 + chunk * kHidden + pair * 2 * kChunk;
        typename L::I weight[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) weight[v] = H::load(w + 2 * v * L::W);
#pragma GCC unroll 12
        for (int s = 0; s < S; s++) {
          const auto in = H::repeat_pair(x + s * kHidden + 2 * pair);
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) acc[s][v] = H::add_dot(acc[s][v], weight[v], in);
        }
      }
      const int32_t* shift = net.shift2 + chunk;
#pragma GCC unroll 12
      for (int s = 0; s < S; s++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v += 2)
          H::store(y + s * kHidden + chunk + v * L::W,
                   H::narrow(H::shift_right(acc[s][v], H::load(shift + v * L::W)),
                             H::shift_right(acc[s][v + 1], H::load(shift + (v + 1) * L::W))));
    }
  }

  // Lanes are 4 outputs x 4 partial sums, each of pairs of inputs. y: rows of 64.
  static void last(const FixedNet& net, const int16_t* y, float* out, int stride) {
    constexpr int kVectors = 16 / L::W, kSamples = L::W == 16 ? kBatch : 4;
    for (int base = 0; base < kBatch; base += kSamples) {
      typename L::I acc[kSamples * kVectors];
#pragma GCC unroll 16
      for (int i = 0; i < kSamples * kVectors; i++) acc[i] = L::set(0);
      for (int k = 0; k < kHidden; k += 8) {
        typename L::I weight[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) weight[v] = H::load(net.w3 + k * kOutputs + 2 * v * L::W);
#pragma GCC unroll 12
        for (int s = 0; s < kSamples; s++) {
          const auto in = H::repeat8(y + (base + s) * kHidden + k);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; v++) acc[s * kVectors + v] = H::add_dot(acc[s * kVectors + v], weight[v], in);
        }
      }
      typename L::F sums[kSamples * kVectors];
#pragma GCC unroll 16
      for (int i = 0; i < kSamples * kVectors; i++) sums[i] = L::to_float(acc[i]);
      const auto to_real = [&](typename L::F r, int v) {
        return L::fma(r, spread_outputs<L>(net.unit3, v), spread_outputs<L>(net.b3, v));
      };
#pragma GCC unroll 3
      for (int s = 0; s < kSamples; s += 4) reduce_and_store<L>(sums + s * kVectors, out + base + s, stride, to_real);
    }
  }

  static void run(const FrameView& f, const int16_t* x, int n, float* out, int stride) {
    const FixedNet& net = *f.fixed;
    alignas(64) int16_t y[kBatch * kHidden] = {};
    for (int i = 0; i < n; i += kBatch) {
      for (int s = 0; s < kBatch && i + s < n; s += S) dense(net, x + (i + s) * kRow, y + s * kHidden);
      last(net, y, out + i, stride);
    }
  }

  static int64_t peak(int64_t rounds) {
    typedef typename H::V I;
    return spin(rounds, L::set(0), H::W, [](I sum, I a) { return H::add_dot(sum, a, a); });
  }
};

}  // namespace
