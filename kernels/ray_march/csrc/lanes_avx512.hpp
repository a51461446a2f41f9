// Sixteen lanes of AVX-512 (F, DQ, BW, VL).
#pragma once
#include "lanes_x86.hpp"

namespace {

struct Avx512Lanes {
  typedef __m512 F;
  typedef __m512i I;
  typedef __mmask16 M;
  typedef uint16_t Plane;
  static constexpr int W = 16;
  static constexpr int kIsa = NLS_AVX512;
  static constexpr int kBlockSamples = 6, kBlockVectors = 4;

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static void store(int32_t* p, I v) { _mm512_storeu_si512(p, v); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static I set(int32_t x) { return _mm512_set1_epi32(x); }
  static F iota() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static I min(I a, I b) { return _mm512_min_epi32(a, b); }
  static I max(I a, I b) { return _mm512_max_epi32(a, b); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static I truncate(F a) { return _mm512_cvttps_epi32(a); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static F floor(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static F pow2(F n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
  static I shift_left(I a, int bits) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits)); }

  static M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static M first(int n) { return (M)(n >= W ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u); }
  static M is_zero(I a) { return _mm512_testn_epi32_mask(a, a); }
  static M both(M a, M b) { return (M)(a & b); }
  static M only(M a, M b) { return (M)(a & ~b); }
  static M either(M a, M b) { return (M)(a | b); }
  static M none() { return 0; }
  static unsigned bits(M m) { return m; }
  static F select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
  static int compress(float* p, M m, F v) {  // a full store: the compressing store to memory is slow on Zen 4
    _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m, v));
    return __builtin_popcount(m);
  }
  static F gather(const float* p, I i) { return _mm512_i32gather_ps(i, p, 4); }
  static I gather_bytes(const uint8_t* p, I i, M m) {
    return _mm512_and_si512(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), m, i, p, 1), set(255));
  }
  static F load_plane(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
  static const uint16_t* planes(const FrameView& f) { return f.planes; }
  static F load_repeat4(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  static F reduce4(F a, F b, F c, F d) {
    const F ab = _mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b);  // a0+a2, b0+b2, a1+a3, b1+b3
    const F cd = _mm512_unpacklo_ps(c, d) + _mm512_unpackhi_ps(c, d);
    return _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xee);
  }
  static void store_blocks(float* p, int stride, F v) {
    _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps(v, 3));
  }

  static void load_xyz(const float* p, F& x, F& y, F& z) {
    const __m512i first8 = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    const __m512i third8 = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    const F a = load(p), b = load(p + 16), c = load(p + 32), d = load(p + 48);
    const F xy_low = _mm512_permutex2var_ps(a, first8, b), xy_high = _mm512_permutex2var_ps(c, first8, d);
    const F z_low = _mm512_permutex2var_ps(a, third8, b), z_high = _mm512_permutex2var_ps(c, third8, d);
    x = _mm512_shuffle_f32x4(xy_low, xy_high, 0x44);
    y = _mm512_shuffle_f32x4(xy_low, xy_high, 0xee);
    z = _mm512_shuffle_f32x4(z_low, z_high, 0x44);
  }
  static void fetch_warp(const float* n, int sx, int sy, float fx, float fy, float fz, float* out) {
    fetch_warp_x86(n, sx, sy, fx, fy, fz, out);
  }
};

}  // namespace
