// The MLP with bfloat16 dot products (AVX512-BF16): inputs and weights in pairs, sums in float32.
#pragma once
#include "lanes_avx512.hpp"
#include "mlp.hpp"

namespace {

inline __attribute__((always_inline)) __m512 dot_pairs(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

inline __attribute__((always_inline)) __m512i to_pairs(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

template <int K2>  // pairs of inputs
inline void dense_pairs(const uint32_t* x, int row, const uint32_t* w, const float* bias, uint32_t* y) {
  constexpr int S = 6;
  __m512 acc[S][4];
#pragma GCC unroll 6
  for (int s = 0; s < S; s++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) acc[s][v] = _mm512_load_ps(bias + 16 * v);
  for (int k = 0; k < K2; k++) {
    __m512i weight[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) weight[v] = _mm512_load_si512(w + k * kHidden + 16 * v);
#pragma GCC unroll 6
    for (int s = 0; s < S; s++) {
      const __m512i in = _mm512_set1_epi32((int)x[s * row + k]);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) acc[s][v] = dot_pairs(acc[s][v], weight[v], in);
    }
  }
  const __m512 zero = _mm512_setzero_ps();
#pragma GCC unroll 6
  for (int s = 0; s < S; s++)
#pragma GCC unroll 2
    for (int v = 0; v < 4; v += 2)
      _mm512_storeu_si512(y + s * (kHidden / 2) + 8 * v,
                          to_pairs(_mm512_max_ps(acc[s][v], zero), _mm512_max_ps(acc[s][v + 1], zero)));
}

struct NetBf16 : FloatInputs<Avx512Lanes, NetBf16, uint32_t> {  // a pair of bf16
  static constexpr int kRow = kFeatures / 2;
  static constexpr int kChunk = kHidden;

  static void store_features(uint32_t* x, const __m512 (&v)[3]) {
    _mm512_storeu_si512(x, to_pairs(v[0], v[1]));
    _mm256_storeu_si256((__m256i*)(x + 16), (__m256i)_mm512_cvtneps_pbh(v[2]));
  }

  static void last(const PackedNet& net, const uint32_t* h, float* out, int stride) {
    __m512 acc[kBatch];
#pragma GCC unroll 12
    for (int s = 0; s < kBatch; s++) acc[s] = _mm512_setzero_ps();
    for (int k = 0; k < kHidden / 2; k += 4) {
      const __m512i weight = _mm512_load_si512(net.w3_pairs + k * 4);
#pragma GCC unroll 12
      for (int s = 0; s < kBatch; s++) {
        const __m128i* in = (const __m128i*)(h + s * (kHidden / 2) + k);
        acc[s] = dot_pairs(acc[s], weight, _mm512_broadcast_i32x4(_mm_load_si128(in)));
      }
    }
#pragma GCC unroll 3
    for (int s = 0; s < kBatch; s += 4) reduce_and_store<Avx512Lanes>(acc + s, net.b3, out + s, stride);
  }

  static void run(const FrameView& f, const uint32_t* x, int n, float* out, int stride) {
    const PackedNet& net = *f.net;
    alignas(64) uint32_t h1[kBatch * kHidden / 2], h2[kBatch * kHidden / 2];
    for (int i = 0; i < n; i += kBatch) {
      for (int s = 0; s < kBatch; s += 6)
        dense_pairs<kFeatures / 2>(x + (i + s) * kRow, kRow, net.w1_pairs, net.b1, h1 + s * (kHidden / 2));
      for (int s = 0; s < kBatch; s += 6)
        dense_pairs<kHidden / 2>(h1 + s * (kHidden / 2), kHidden / 2, net.w2_pairs, net.b2, h2 + s * (kHidden / 2));
      last(net, h2, out + i, stride);
    }
  }

  static int64_t peak(int64_t rounds) {
    return spin(rounds, _mm512_setzero_ps(), 32,
                [](__m512 sum, __m512 a) { return dot_pairs(sum, (__m512i)a, (__m512i)a); });
  }
};

}  // namespace
