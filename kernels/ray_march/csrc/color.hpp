// Premultiplied RGBA over an opaque underlay, then BT.601 limited-range I420. The order of operations is that of
// kernels/color/reference.py, so the results are equal bit by bit.
#pragma once
#include "tile_job.hpp"

namespace {

constexpr int kColorSpan = 256;  // pixels of two rows held at once

struct ColorRows {
  alignas(64) float r[2][kColorSpan], g[2][kColorSpan], b[2][kColorSpan];
};

constexpr float weight(double per_unit) { return (float)(per_unit / 255.0); }

inline float clamp_255(float v) { return v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v; }

inline void composite_span(const float* __restrict rgba, const uint8_t* __restrict underlay, int n,
                           float* __restrict r, float* __restrict g, float* __restrict b) {
  for (int i = 0; i < n; i++) {
    const float behind = 1.0f - rgba[4 * i + 3];
    r[i] = clamp_255(rgba[4 * i] * 255.0f + behind * (float)underlay[3 * i]);
    g[i] = clamp_255(rgba[4 * i + 1] * 255.0f + behind * (float)underlay[3 * i + 1]);
    b[i] = clamp_255(rgba[4 * i + 2] * 255.0f + behind * (float)underlay[3 * i + 2]);
  }
}

inline void luma_span(const float* __restrict r, const float* __restrict g, const float* __restrict b, int n,
                      uint8_t* __restrict y) {
  for (int i = 0; i < n; i++)
    y[i] = (uint8_t)(int)(((r[i] * weight(65.481) + g[i] * weight(128.553)) + b[i] * weight(24.966)) +
                          16.5f);
}

inline float mean4(const float* top, const float* bottom, int i) {
  return ((top[2 * i] + top[2 * i + 1]) + (bottom[2 * i] + bottom[2 * i + 1])) * 0.25f;
}

inline void chroma_span(const ColorRows& s, int n, uint8_t* __restrict u, uint8_t* __restrict v) {
  for (int i = 0; i < n; i++) {
    const float r = mean4(s.r[0], s.r[1], i), g = mean4(s.g[0], s.g[1], i), b = mean4(s.b[0], s.b[1], i);
    u[i] = (uint8_t)(int)(((r * weight(-37.797) + g * weight(-74.203)) + b * weight(112.0)) + 128.5f);
    v[i] = (uint8_t)(int)(((r * weight(112.0) + g * weight(-93.786)) + b * weight(-18.214)) + 128.5f);
  }
}

// The last pixel of a row of odd length counts twice in chroma.
inline int evened(ColorRows& s, int row, int n) {
  if (n % 2 == 0) return n;
  s.r[row][n] = s.r[row][n - 1];
  s.g[row][n] = s.g[row][n - 1];
  s.b[row][n] = s.b[row][n - 1];
  return n + 1;
}

template <class L>  // only so that each instruction set compiles its own
void composite_i420(const float* rgba, const uint8_t* underlay, int height, int width, uint8_t* out) {
  ColorRows s;
  const int chroma_width = (width + 1) / 2;
  uint8_t* u = out + (long)height * width;
  uint8_t* v = u + (long)((height + 1) / 2) * chroma_width;
  for (int y = 0; y < height; y += 2)
    for (int x = 0; x < width; x += kColorSpan) {
      const int n = width - x < kColorSpan ? width - x : kColorSpan;
      int cells = 0;
      for (int row = 0; row < 2; row++) {
        const long at = (long)(y + row < height ? y + row : y) * width + x;  // so does the last of an odd number of rows
        composite_span(rgba + 4 * at, underlay + 3 * at, n, s.r[row], s.g[row], s.b[row]);
        luma_span(s.r[row], s.g[row], s.b[row], n, out + at);
        cells = evened(s, row, n) / 2;
      }
      const long chroma = (long)(y / 2) * chroma_width + x / 2;
      chroma_span(s, cells, u + chroma, v + chroma);
    }
}

}  // namespace
