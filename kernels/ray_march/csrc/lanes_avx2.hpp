// Eight lanes of AVX2 with FMA and F16C.
#pragma once
#include "lanes_x86.hpp"

namespace {

// Row b lists the positions of b's set bits, one nibble each: the permutation that packs those lanes.
struct PackTable {
  uint32_t row[256];
  constexpr PackTable() : row() {
    for (int b = 0; b < 256; b++) {
      uint32_t packed = 0;
      int n = 0;
      for (int i = 0; i < 8; i++)
        if (b >> i & 1) packed |= (uint32_t)i << (4 * n++);
      row[b] = packed;
    }
  }
};
constexpr PackTable kPackTable;

struct Avx2Lanes {
  typedef __m256 F;
  typedef __m256i I;
  typedef __m256 M;
  typedef uint16_t Plane;
  static constexpr int W = 8;
  static constexpr int kIsa = NLS_AVX2;
  static constexpr int kBlockSamples = 6, kBlockVectors = 2;

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void store(int32_t* p, I v) { _mm256_storeu_si256((__m256i*)p, v); }
  static F set(float x) { return _mm256_set1_ps(x); }
  static I set(int32_t x) { return _mm256_set1_epi32(x); }
  static F iota() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static I min(I a, I b) { return _mm256_min_epi32(a, b); }
  static I max(I a, I b) { return _mm256_max_epi32(a, b); }
  static F abs(F a) { return _mm256_andnot_ps(set(-0.0f), a); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static I truncate(F a) { return _mm256_cvttps_epi32(a); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static F floor(F a) { return _mm256_floor_ps(a); }
  static F pow2(F n) {  // n integral, -126..127
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(truncate(n), set(127)), 23));
  }
  static I shift_left(I a, int bits) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits)); }

  static M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static M first(int n) { return less(iota(), set((float)n)); }
  static M is_zero(I a) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, _mm256_setzero_si256())); }
  static M both(M a, M b) { return _mm256_and_ps(a, b); }
  static M only(M a, M b) { return _mm256_andnot_ps(b, a); }
  static M either(M a, M b) { return _mm256_or_ps(a, b); }
  static M none() { return _mm256_setzero_ps(); }
  static unsigned bits(M m) { return (unsigned)_mm256_movemask_ps(m); }
  static F select(M m, F yes, F no) { return _mm256_blendv_ps(no, yes, m); }
  static int compress(float* p, M m, F v) {
    const unsigned b = bits(m);
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i order = _mm256_srlv_epi32(set((int32_t)kPackTable.row[b]), shifts);  // low 3 bits count
    store(p, _mm256_permutevar8x32_ps(v, order));
    return __builtin_popcount(b);
  }
  static F gather(const float* p, I i) { return _mm256_i32gather_ps(p, i, 4); }
  static I gather_bytes(const uint8_t* p, I i, M m) {
    const __m256i got = _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), (const int*)p, i,
                                                    _mm256_castps_si256(m), 1);
    return _mm256_and_si256(got, set(255));
  }
  static unsigned look_up_bits(const uint32_t* table, I index) {
    const I words = _mm256_i32gather_epi32((const int*)table, _mm256_srli_epi32(index, 5), 4);
    const I from_top = _mm256_andnot_si256(index, set(31));  // 31 - index % 32: moves the bit to the sign
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_sllv_epi32(words, from_top)));
  }
  static F load_plane(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
  static const uint16_t* planes(const FrameView& f) { return f.planes; }
  static F load_repeat4(const float* p) { return _mm256_broadcast_ps((const __m128*)p); }
  static F reduce4(F a, F b, F c, F d) {
    const F ab = _mm256_unpacklo_ps(a, b) + _mm256_unpackhi_ps(a, b);  // a0+a2, b0+b2, a1+a3, b1+b3
    const F cd = _mm256_unpacklo_ps(c, d) + _mm256_unpackhi_ps(c, d);
    return _mm256_shuffle_ps(ab, cd, 0x44) + _mm256_shuffle_ps(ab, cd, 0xee);
  }
  static void store_blocks(float* p, int stride, F v) {
    _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    _mm_storeu_ps(p + stride, _mm256_extractf128_ps(v, 1));
  }

  static F join(const float* low, const float* high) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
  }
  static void load_xyz(const float* p, F& x, F& y, F& z) {
    const F a = join(p, p + 16), b = join(p + 4, p + 20), c = join(p + 8, p + 24), d = join(p + 12, p + 28);
    const F ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
    x = _mm256_shuffle_ps(ab, cd, 0x44);
    y = _mm256_shuffle_ps(ab, cd, 0xee);
    z = _mm256_shuffle_ps(_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d), 0x44);
  }
  static void fetch_warp(const float* n, int sx, int sy, float fx, float fy, float fz, float* out) {
    fetch_warp_x86(n, sx, sy, fx, fy, fz, out);
  }
};

// Sixteen short integers.
struct Avx2Shorts {
  typedef __m256i V;
  static constexpr int W = 16;
  static constexpr int kBlockSamples = 6, kBlockVectors = 2;

  static V load(const int16_t* p) { return _mm256_load_si256((const V*)p); }
  static V load(const int32_t* p) { return _mm256_load_si256((const V*)p); }
  static void store(int16_t* p, V v) { _mm256_store_si256((V*)p, v); }
  static V positive(V v) { return _mm256_max_epi16(v, _mm256_setzero_si256()); }
  // sum + a b 2^-15, the product rounded. In assembly, because GCC 12 adds in an order for which it lacks registers.
  static V add_scaled(V sum, V a, V b) {
    const V product = _mm256_mulhrs_epi16(a, b);
    __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
    return sum;
  }
  static V repeat_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static V repeat8(const int16_t* p) { return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p)); }
  static V either(V a, V b) { return _mm256_or_si256(a, b); }
  static uint32_t pairs_not_zero(V a) {  // a bit for each 32
    return ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(a, _mm256_setzero_si256()))) & 0xffu;
  }
  static V shift_right(V a, V bits) { return _mm256_srav_epi32(a, bits); }
  // 32-bit integers to 16 bits, 0 where negative: four of a, four of b, and so on.
  static V narrow(V a, V b) { return _mm256_packus_epi32(a, b); }
  // 32-bit sums of two products each. One piece of assembly, because GCC 12 takes the multiplications of a block apart
  // from their additions and then runs out of registers.
  static V add_dot(V sum, V a, V b) {
    V product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "x"(b));
    return sum;
  }
};

}  // namespace
