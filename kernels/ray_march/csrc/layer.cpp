// A premultiplied RGBA picture read at displaced pixels and laid over an opaque background.
#include <cmath>
#include <cstring>

#include "abi.h"

namespace {

typedef float Vec4 __attribute__((vector_size(16)));
typedef uint8_t Bytes4 __attribute__((vector_size(4)));

inline Vec4 texel(const uint8_t* p) {
  Bytes4 bytes;
  std::memcpy(&bytes, p, 4);
  return __builtin_convertvector(bytes, Vec4);
}

inline float clamp_to(float v, float most) { return v < 0.0f ? 0.0f : v > most ? most : v; }

// Row y of the displacement grid, (nodes, 2), between its two nearest rows of nodes.
void grid_row(const float* grid, int nodes, float y, float* row) {
  int top = (int)y;
  if (top > nodes - 2) top = nodes - 2;
  const float share = y - (float)top;
  const float* a = grid + (long)top * nodes * 2;
  const float* b = a + (long)nodes * 2;
  for (int i = 0; i < nodes * 2; i++) row[i] = a[i] * (1.0f - share) + b[i] * share;
}

struct Layer {
  const uint8_t* rgba;
  int side;

  Vec4 read(float x, float y) const {
    const float most = (float)(side - 1);
    x = clamp_to(x, most), y = clamp_to(y, most);
    const int x0 = (int)x, y0 = (int)y;
    const int x1 = x0 + 1 < side ? x0 + 1 : x0, y1 = y0 + 1 < side ? y0 + 1 : y0;
    const float sx = x - (float)x0, sy = y - (float)y0;
    const uint8_t *top = rgba + (long)y0 * side * 4, *low = rgba + (long)y1 * side * 4;
    const Vec4 upper = texel(top + 4 * x0) * (1.0f - sx) + texel(top + 4 * x1) * sx;
    const Vec4 lower = texel(low + 4 * x0) * (1.0f - sx) + texel(low + 4 * x1) * sx;
    return upper * (1.0f - sy) + lower * sy;
  }
};

}  // namespace

int32_t nls_warp_layer(const uint8_t* layer, int32_t layer_side, const float* grid, int32_t nodes,
                       const uint8_t* background, int32_t height, int32_t width, uint8_t* out) {
  if (!layer || !grid || !background || !out || layer_side < 1 || nodes < 2 || nodes > NLS_MOST_NODES || height < 1 ||
      width < 1)
    return NLS_BAD_ARGUMENT;
  const Layer picture{layer, layer_side};
  const float half_side = 0.5f * (float)layer_side, last = (float)(nodes - 1);
  float row[NLS_MOST_NODES * 2];
  for (int y = 0; y < height; y++) {
    const float v = ((float)y + 0.5f) / (float)height;
    grid_row(grid, nodes, v * last, row);
    for (int x = 0; x < width; x++) {
      const float u = ((float)x + 0.5f) / (float)width, place = u * last;
      int node = (int)place;
      if (node > nodes - 2) node = nodes - 2;
      const float share = place - (float)node;
      const float dx = row[2 * node] * (1.0f - share) + row[2 * node + 2] * share;
      const float dy = row[2 * node + 1] * (1.0f - share) + row[2 * node + 3] * share;
      const Vec4 seen = picture.read((2.0f * u + dx) * half_side - 0.5f, (2.0f * v + dy) * half_side - 0.5f);
      const float behind = 1.0f - seen[3] / 255.0f;
      const long at = 3 * ((long)y * width + x);
      for (int c = 0; c < 3; c++) {
        const float value = seen[c] + behind * (float)background[at + c] + 0.5f;
        out[at + c] = (uint8_t)(int)clamp_to(value, 255.0f);
      }
    }
  }
  return NLS_OK;
}
