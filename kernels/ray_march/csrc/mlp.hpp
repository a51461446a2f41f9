// The MLP 48 -> 64 -> 64 -> 4 over rows of samples, float32. Lanes are outputs; a block of samples shares each
// weight load. The last layer has only 4 outputs, so its lanes are 4 outputs x 4 partial sums.
#pragma once
#include "features.hpp"
#include "peak.hpp"

namespace {

constexpr int kBatch = 12;  // samples per pass; callers pad their rows to a multiple of it

template <class L, int K>
inline void dense(const float* x, int row, const float* w, const float* bias, float* y) {
  constexpr int S = L::kBlockSamples, V = L::kBlockVectors, kChunk = V * L::W;
  for (int chunk = 0; chunk < kHidden / kChunk; chunk++, w += K * kChunk, bias += kChunk, y += kChunk) {
    typename L::F acc[S][V];
#pragma GCC unroll 6
    for (int s = 0; s < S; s++)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) acc[s][v] = L::load(bias + v * L::W);
    for (int k = 0; k < K; k++) {
      typename L::F weight[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) weight[v] = L::load(w + k * kChunk + v * L::W);
#pragma GCC unroll 6
      for (int s = 0; s < S; s++) {
        const typename L::F in = L::set(x[s * row + k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[s][v] = L::fma(weight[v], in, acc[s][v]);
      }
    }
#pragma GCC unroll 6
    for (int s = 0; s < S; s++)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) L::store(y + s * kHidden + v * L::W, L::max(acc[s][v], L::set(0.0f)));
  }
}

// Lanes of vector v of 16 / W: each output's value four times.
template <class L>
inline typename L::F spread_outputs(const float* values, int v) {
  alignas(64) float lanes[L::W];
  for (int lane = 0; lane < L::W; lane++) lanes[lane] = values[(v * L::W + lane) / 4];
  return L::load(lanes);
}

// The partial sums of four samples, 16 / W vectors each, added up: `finish(sums, v)` makes outputs of them.
template <class L, class Finish>
inline void reduce_and_store(const typename L::F* sums, float* out, int stride, const Finish& finish) {
  constexpr int V = 16 / L::W;
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const typename L::F r = L::reduce4(sums[v], sums[V + v], sums[2 * V + v], sums[3 * V + v]);
    L::store_blocks(out + v * L::W / 4 * stride, stride, finish(r, v));
  }
}

template <class L>
inline void reduce_and_store(const typename L::F* sums, const float* bias, float* out, int stride) {
  reduce_and_store<L>(sums, out, stride, [&](typename L::F r, int v) { return r + spread_outputs<L>(bias, v); });
}

// h: rows of 64; w3 as in PackedNet; out: 4 arrays `stride` apart.
template <class L>
inline void last_layer(const float* w3, const float* b3, const float* h, float* out, int stride) {
  constexpr int V = 16 / L::W, S = L::W == 16 ? kBatch : 4;
  for (int base = 0; base < kBatch; base += S) {
    typename L::F acc[S * V];
#pragma GCC unroll 16
    for (int i = 0; i < S * V; i++) acc[i] = L::set(0.0f);
    for (int k = 0; k < kHidden; k += 4) {
      typename L::F weight[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) weight[v] = L::load(w3 + k * 4 + v * L::W);
#pragma GCC unroll 12
      for (int s = 0; s < S; s++) {
        const typename L::F in = L::load_repeat4(h + (base + s) * kHidden + k);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[s * V + v] = L::fma(weight[v], in, acc[s * V + v]);
      }
    }
#pragma GCC unroll 3
    for (int s = 0; s < S; s += 4) reduce_and_store<L>(acc + s * V, b3, out + base + s, stride);
  }
}

template <class L>
struct NetF32 : FloatInputs<L, NetF32<L>, float> {
  static constexpr int kRow = kFeatures;
  static constexpr int kVectors = kFeatures / L::W;
  static constexpr int kChunk = L::kBlockVectors * L::W;

  static void store_features(float* x, const typename L::F (&v)[kVectors]) {
#pragma GCC unroll 12
    for (int i = 0; i < kVectors; i++) L::store(x + i * L::W, v[i]);
  }

  // x: rows of 48; out: 4 arrays `stride` apart. Works on whole batches: both have room for n rounded up.
  static void run(const FrameView& f, const float* x, int n, float* out, int stride) {
    const PackedNet& net = *f.net;
    alignas(64) float h1[kBatch * kHidden], h2[kBatch * kHidden];
    for (int i = 0; i < n; i += kBatch) {
      for (int s = 0; s < kBatch; s += L::kBlockSamples)
        dense<L, kFeatures>(x + (i + s) * kFeatures, kFeatures, net.w1, net.b1, h1 + s * kHidden);
      for (int s = 0; s < kBatch; s += L::kBlockSamples)
        dense<L, kHidden>(h1 + s * kHidden, kHidden, net.w2, net.b2, h2 + s * kHidden);
      last_layer<L>(net.w3, net.b3, h2, out + i, stride);
    }
  }

  static int64_t peak(int64_t rounds) { return spin_float<L>(rounds); }
};

}  // namespace
