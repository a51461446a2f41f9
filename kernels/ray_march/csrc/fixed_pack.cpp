// Fixed point: units, packing, and the proof that its sums fit.
//
// First layer, channel o: real value = unit1[o] * (int16). Texels hold T[o] = sum_c w1[o][c] texel[c], rounded to units.
// With M_p = max |T| over plane p, in units, weights of one quad that sum to at most 1 + 2^-15 (four roundings of 2^-17)
// and 12 products each rounded by 1/2, |fetch| <= sum_p (M_p + 1/2) (1 + 2^-15) + 12 / 2 < sum_p M_p + 9, as sum_p M_p
// < 2^15. reach1 is 1 more. A frame whose bias leaves |b1| + reach1 > 32767 is not rendered in fixed point at all
// (fit_biases), so no saturating addition ever saturates.
//
// Second layer, output o: real value = unit2[o] * (int32), inputs x in 0..32767. A pair's products are at most
// 2 * 32767^2 < 2^31 in size: vpmaddwd is exact. Weights are rounded so that sum |w| <= kWeightSum, hence any partial
// sum in any order is at most kWeightSum * 32767 + |b2| <= kWeightSum * 32767 + kMostBias < 2^31.
#include <algorithm>
#include <cmath>

#include "scene.hpp"

namespace {

constexpr double kMost = 32767.0;
constexpr int64_t kMostBias = (1 << 27) - 1;
constexpr int64_t kWeightSum = ((int64_t{1} << 31) - 1 - kMostBias) / 32767;
static_assert(kWeightSum * 32767 + kMostBias < int64_t{1} << 31, "second layer's sums fit 32 bits");
constexpr double kReachRounding = 10.0;

size_t texel_count(const NlsField& field) {
  return static_cast<size_t>(field.plane_side) * static_cast<size_t>(field.plane_side);
}

// The first layer's products with one texel of a plane: sums[o], o < 64.
void apply_layer(const float* w1_columns, const uint16_t* texel, float* sums) {
  for (int o = 0; o < kHidden; o++) sums[o] = 0.0f;
  for (int c = 0; c < kChannels; c++) {
    const float value = half_to_float(texel[c]);
    for (int o = 0; o < kHidden; o++) sums[o] += w1_columns[c * kHidden + o] * value;
  }
}

// [input][output] of the first layer.
AlignedBuffer<float> columns_of(const float* w1) {
  AlignedBuffer<float> columns(kFeatures * kHidden);
  for (int o = 0; o < kHidden; o++)
    for (int c = 0; c < kFeatures; c++) columns.get()[c * kHidden + o] = w1[o * kFeatures + c];
  return columns;
}

// Units of the first layer: room for the texels' sums, a quarter more for the bias, and a share of the widest channel's
// range for the biases of narrow channels.
void choose_units(const double (&reach)[kHidden], FixedNet& net) {
  double widest = *std::max_element(reach, reach + kHidden);
  if (widest == 0.0) widest = 1.0;
  for (int o = 0; o < kHidden; o++) {
    net.unit1[o] = (1.25 * reach[o] + 0.05 * widest) / (kMost - 4 * kReachRounding);
    net.reach1[o] = static_cast<int32_t>(std::ceil(reach[o] / net.unit1[o]) + kReachRounding);
  }
}

void pack_second(const NlsField& field, int chunk, FixedNet& net) {
  for (int o = 0; o < kHidden; o++) {
    double sum = 0.0, largest = 0.0;
    for (int k = 0; k < kHidden; k++) {
      const double w = std::abs(field.w2[o * kHidden + k] * net.unit1[k]);
      sum += w;
      largest = std::max(largest, w);
    }
    // Rounding adds at most 1/2 to each weight.
    const double unit = std::max(sum / static_cast<double>(kWeightSum - kHidden / 2), largest / kMost);
    net.unit2[o] = unit > 0.0 ? unit : 1.0 / (1 << 20);
    for (int k = 0; k < kHidden; k++) {
      const double w = field.w2[o * kHidden + k] * net.unit1[k] / net.unit2[o];
      const int at = o / chunk * chunk * kHidden + (k / 2 * chunk + o % chunk) * 2 + k % 2;
      net.w2[at] = static_cast<int16_t>(std::lrint(w));
    }
    for (int out = 0; out < kOutputs; out++)
      net.w3[(o / 4 * kOutputs + out) * 4 + o % 4] = static_cast<float>(field.w3[out * kHidden + o] * net.unit2[o]);
  }
}

}  // namespace

void pack_fixed(const NlsField& field, int chunk, FixedNet& net, AlignedBuffer<int16_t>& planes) {
  const size_t texels = texel_count(field);
  const AlignedBuffer<float> columns = columns_of(field.w1);
  AlignedBuffer<float> sums(3 * texels * kHidden);
  double reach[kHidden] = {};
  for (size_t plane = 0; plane < 3; plane++) {
    float most[kHidden] = {};
    for (size_t t = plane * texels; t < (plane + 1) * texels; t++) {
      float* at = sums.get() + t * kHidden;
      apply_layer(columns.get() + plane * kChannels * kHidden, field.planes + t * kChannels, at);
      for (int o = 0; o < kHidden; o++) most[o] = std::max(most[o], std::abs(at[o]));
    }
    for (int o = 0; o < kHidden; o++) reach[o] += most[o];
  }
  choose_units(reach, net);
  planes.resize(3 * texels * kHidden);
  float scale[kHidden];
  for (int o = 0; o < kHidden; o++) scale[o] = static_cast<float>(1.0 / net.unit1[o]);
  for (size_t t = 0; t < 3 * texels; t++)
    for (size_t o = 0; o < kHidden; o++)
      planes.get()[t * kHidden + o] = static_cast<int16_t>(std::lrintf(sums.get()[t * kHidden + o] * scale[o]));
  pack_second(field, chunk, net);
  std::copy(field.b3, field.b3 + kOutputs, net.b3);
}

bool fit_biases(const NlsFrame& frame, FixedNet& net) {
  for (int o = 0; o < kHidden; o++) {
    const double b1 = frame.bias1[o] / net.unit1[o], b2 = frame.bias2[o] / net.unit2[o];
    if (std::abs(b1) > kMost - 1 - net.reach1[o] || std::abs(b2) > static_cast<double>(kMostBias - 1)) return false;
    net.b1[o] = static_cast<int16_t>(std::lrint(b1));
    net.b2[o] = static_cast<int32_t>(std::lrint(b2));
  }
  return true;
}
