// Pieces that AVX2 and AVX-512 share: 256-bit fetches for one sample.
#pragma once
#include <immintrin.h>

#include "tile_job.hpp"

namespace {

// Trilinear fetch of one node cell. Nodes are 4 floats with z fastest, so a node and its upper z neighbour are
// one 256-bit load: interpolate x and y for both at once, then z between the halves.
inline __attribute__((always_inline)) void fetch_warp_x86(const float* n, int sx, int sy, float fx, float fy,
                                                          float fz, float* out) {
  const __m256 a = _mm256_loadu_ps(n), b = _mm256_loadu_ps(n + sy);
  const __m256 c = _mm256_loadu_ps(n + sx), e = _mm256_loadu_ps(n + sx + sy);
  const __m256 vx = _mm256_set1_ps(fx), vy = _mm256_set1_ps(fy);
  const __m256 p = _mm256_fmadd_ps(_mm256_sub_ps(c, a), vx, a), q = _mm256_fmadd_ps(_mm256_sub_ps(e, b), vx, b);
  const __m256 r = _mm256_fmadd_ps(_mm256_sub_ps(q, p), vy, p);
  const __m128 low = _mm256_castps256_ps128(r), high = _mm256_extractf128_ps(r, 1);
  _mm_store_ps(out, _mm_fmadd_ps(_mm_sub_ps(high, low), _mm_set1_ps(fz), low));
}

}  // namespace
