// Four lanes of GCC vectors: SSE2 on any x86-64, NEON on AArch64, scalar code elsewhere.
#pragma once
#include <math.h>
#include <string.h>

#include "tile_job.hpp"

namespace {

struct PortableLanes {
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef I M;
  typedef float Plane;
  static constexpr int W = 4;
  static constexpr int kIsa = NLS_PORTABLE;
  static constexpr int kBlockSamples = 4, kBlockVectors = 2;

  static F load(const float* p) { F v; memcpy(&v, p, sizeof v); return v; }
  static void store(float* p, F v) { memcpy(p, &v, sizeof v); }
  static void store(int32_t* p, I v) { memcpy(p, &v, sizeof v); }
  static F set(float x) { return F{x, x, x, x}; }
  static I set(int32_t x) { return I{x, x, x, x}; }
  static F iota() { return F{0, 1, 2, 3}; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F min(F a, F b) { return a < b ? a : b; }
  static F max(F a, F b) { return a > b ? a : b; }
  static I min(I a, I b) { return a < b ? a : b; }
  static I max(I a, I b) { return a > b ? a : b; }
  static F abs(F a) { return (F)((I)a & set(0x7fffffff)); }
  static F sqrt(F a) { return F{sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
  static I truncate(F a) { return __builtin_convertvector(a, I); }
  static F to_float(I a) { return __builtin_convertvector(a, F); }
  static F floor(F a) { const F t = to_float(truncate(a)); return t > a ? t - set(1.0f) : t; }
  static F pow2(F n) { return (F)((truncate(n) + set(127)) << 23); }  // n integral, -126..127
  static I shift_left(I a, int bits) { return a << bits; }

  static M less(F a, F b) { return a < b; }
  static M first(int n) { return I{0, 1, 2, 3} < set(n); }
  static M is_zero(I a) { return a == set(0); }
  static M both(M a, M b) { return a & b; }
  static M only(M a, M b) { return a & ~b; }
  static M either(M a, M b) { return a | b; }
  static M none() { return set(0); }
  static unsigned bits(M m) { return (m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8); }
  static F select(M m, F yes, F no) { return m ? yes : no; }
  static int compress(float* p, M m, F v) {
    int n = 0;
    for (int i = 0; i < W; i++)
      if (m[i]) p[n++] = v[i];
    return n;
  }
  static F gather(const float* p, I i) { return F{p[i[0]], p[i[1]], p[i[2]], p[i[3]]}; }
  static I gather_bytes(const uint8_t* p, I i, M) { return I{p[i[0]], p[i[1]], p[i[2]], p[i[3]]}; }
  // Bit i: whether bit number index[i] of the table is set.
  static unsigned look_up_bits(const uint32_t* table, I index) {
    unsigned found = 0;
    for (int i = 0; i < W; i++) found |= (table[index[i] >> 5] >> (index[i] & 31) & 1) << i;
    return found;
  }
  static F load_plane(const float* p) { return load(p); }
  static const float* planes(const FrameView& f) { return f.planes_f32; }
  // Four floats repeated over the vector.
  static F load_repeat4(const float* p) { return load(p); }

  // Per block of four lanes: (sum of a's, sum of b's, sum of c's, sum of d's).
  static F reduce4(F a, F b, F c, F d) {
    return F{(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c[0] + c[1]) + (c[2] + c[3]),
             (d[0] + d[1]) + (d[2] + d[3])};
  }
  static void store_blocks(float* p, int, F v) { store(p, v); }

  // Four lanes of (x, y, z, unused) to one vector per component.
  static void load_xyz(const float* p, F& x, F& y, F& z) {
    x = F{p[0], p[4], p[8], p[12]};
    y = F{p[1], p[5], p[9], p[13]};
    z = F{p[2], p[6], p[10], p[14]};
  }
  // Trilinear fetch of one node cell; nodes are 4 floats, z fastest.
  static void fetch_warp(const float* n, int sx, int sy, float fx, float fy, float fz, float* out) {
    const F vx = set(fx), vy = set(fy), vz = set(fz);
    F d[2];
    for (int k = 0; k < 2; k++) {
      const F a = load(n + 4 * k), b = load(n + sy + 4 * k), c = load(n + sx + 4 * k), e = load(n + sx + sy + 4 * k);
      const F p = a + (c - a) * vx, q = b + (e - b) * vx;
      d[k] = p + (q - p) * vy;
    }
    store(out, d[0] + (d[1] - d[0]) * vz);
  }
};

}  // namespace
