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

// The least of some rows, voxel by voxel, and of what lies beside it.
class RowMinimum {
 public:
  explicit RowMinimum(int count) : count_(count) { std::memset(least_, 255, static_cast<size_t>(count) + 2); }
  void add(const uint8_t* row) {
    for (int z = 0; z < count_; z++) least_[z + 1] = std::min(least_[z + 1], row[z]);
  }
  // row = min(row, least around it + 1)
  void lower(uint8_t* row) const {
    for (int z = 0; z < count_; z++) {
      const uint8_t around = std::min(std::min(least_[z], least_[z + 1]), std::min(least_[z + 2], uint8_t{254}));
      row[z] = std::min(row[z], static_cast<uint8_t>(around + 1));
    }
  }

 private:
  int count_;
  uint8_t least_[256 + 2];  // one more at either end
};

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

// Two raster sweeps with unit weights to all 26 neighbours give the exact chessboard distance (Rosenfeld and Pfaltz
// 1966). Of the 13 neighbours already swept, 12 lie in four finished rows, which are taken a row at a time.
void chebyshev_distance(const uint8_t* occupancy, int grid, int bits, uint8_t* distance) {
  const auto row_at = [&](int x, int y) {
    return distance + ((static_cast<size_t>(x) << bits | static_cast<size_t>(y)) << bits);
  };
  for (int x = 0; x < grid; x++)
    for (int y = 0; y < grid; y++)
      for (int z = 0; z < grid; z++)
        row_at(x, y)[z] = occupancy[(static_cast<size_t>(x) * grid + y) * grid + z] ? 0 : 255;
  for (int sweep = 0; sweep < 2; sweep++) {
    const int sign = sweep ? 1 : -1, from = sweep ? grid - 1 : 0;
    for (int x = from; x >= 0 && x < grid; x -= sign)
      for (int y = from; y >= 0 && y < grid; y -= sign) {
        uint8_t* row = row_at(x, y);
        RowMinimum rows(grid);
        for (int ny = y - 1; ny <= y + 1; ny++)
          if (x + sign >= 0 && x + sign < grid && ny >= 0 && ny < grid) rows.add(row_at(x + sign, ny));
        if (y + sign >= 0 && y + sign < grid) rows.add(row_at(x, y + sign));
        rows.lower(row);
        for (int z = from - sign; z >= 0 && z < grid; z -= sign)
          row[z] = static_cast<uint8_t>(std::min<int>(row[z], row[z + sign] + 1));
      }
  }
}
