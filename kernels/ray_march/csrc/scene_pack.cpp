// One-time preparation of a field's arrays.
#include <algorithm>
#include <cstring>

#include "scene.hpp"

namespace {

uint16_t to_bf16(float value) {  // round to nearest even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

uint32_t pair_of(const float* w) { return to_bf16(w[0]) | static_cast<uint32_t>(to_bf16(w[1])) << 16; }

void pack_layer(const float* w, int inputs, int chunk, float* packed, uint32_t* pairs) {
  for (int out = 0; out < kHidden; out++) {
    for (int in = 0; in < inputs; in++)
      packed[(out / chunk * inputs + in) * chunk + out % chunk] = w[out * inputs + in];
    for (int in = 0; in < inputs; in += 2) pairs[in / 2 * kHidden + out] = pair_of(w + out * inputs + in);
  }
}

}  // namespace

void pack_net(const NlsField& field, int chunk, PackedNet& net) {
  pack_layer(field.w1, kFeatures, chunk, net.w1, net.w1_pairs);
  pack_layer(field.w2, kHidden, chunk, net.w2, net.w2_pairs);
  for (int out = 0; out < kOutputs; out++) {
    for (int in = 0; in < kHidden; in++) net.w3[(in / 4 * kOutputs + out) * 4 + in % 4] = field.w3[out * kHidden + in];
    for (int in = 0; in < kHidden; in += 2)
      net.w3_pairs[(in / 8 * kOutputs + out) * 4 + in / 2 % 4] = pair_of(field.w3 + out * kHidden + in);
    net.b3[out] = field.b3[out];
  }
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {  // zero and subnormal: mantissa * 2^-24
    const float value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Two raster sweeps with unit weights to all 26 neighbours give the exact chessboard distance
// (Rosenfeld and Pfaltz 1966).
void chebyshev_distance(const uint8_t* occupancy, int grid, int bits, uint8_t* distance) {
  const auto at = [bits](int x, int y, int z) {
    return static_cast<size_t>(x) << (2 * bits) | static_cast<size_t>(y) << bits | static_cast<size_t>(z);
  };
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++)
        distance[at(x, y, z)] = occupancy[(static_cast<size_t>(x) * grid + y) * grid + z] ? 0 : 255;
  for (int sweep = 0; sweep < 2; sweep++) {
    const int sign = sweep ? 1 : -1;
    const auto place = [&](int i) { return sweep ? grid - 1 - i : i; };
    for (int i = 0; i < grid; i++)
      for (int j = 0; j < grid; j++)
        for (int k = 0; k < grid; k++) {
          const int x = place(i), y = place(j), z = place(k);
          int best = distance[at(x, y, z)];
          for (int n = 0; n < 13 && best > 0; n++) {  // the 13 neighbours already swept
            const int nx = x + sign * (n < 9 ? 1 : 0);
            const int ny = y + (n < 9 ? n / 3 - 1 : n < 12 ? sign : 0);
            const int nz = z + (n < 9 ? n % 3 - 1 : n < 12 ? n - 10 : sign);
            if (std::min({nx, ny, nz}) < 0 || std::max({nx, ny, nz}) >= grid) continue;
            best = std::min(best, distance[at(nx, ny, nz)] + 1);
          }
          distance[at(x, y, z)] = static_cast<uint8_t>(best);
        }
  }
}
