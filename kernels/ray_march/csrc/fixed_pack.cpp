// Fixed point: units, packing, and the proof that its sums fit.
//
// First layer, channel o: real value = unit1[o] * (int16). Texels hold T[o] = sum_c w1[o][c] texel[c], rounded to units.
// With M_p = max |T| over plane p, in units, weights of one quad that sum to within 2^-14 of 1 and to at most 1 + 2^-15
// (four roundings of 2^-17) and 12 products each rounded by 1/2, |fetch| <= sum_p (M_p + 1/2) (1 + 2^-15) + 12 / 2
// < sum_p M_p + 9, as sum_p M_p < 2^15. reach1 is 1 more. A frame whose bias leaves |b1| + reach1 > 32767 is not rendered
// in fixed point at all (fit_biases), so no addition of 16 bits overflows. In the same way, with the largest T of each
// plane (or what is left of it if it is negative), fetch < sum_p max T + 3 / 2 + 2 + 12 / 2: top1 is sum_p max T + 10.
//
// Second layer, output o: real value = unit2[o] * (int32), inputs x in 0..32767. A pair's products are at most
// 2 * 32767^2 < 2^31 in size: vpmaddwd is exact. Weights are rounded so that sum |w| <= kWeightSum, hence any partial
// sum in any order is at most kWeightSum * 32767 + |b2| <= kWeightSum * 32767 + kMostBias < 2^31.
//
// Last layer. Inputs are the second layer's sums, shifted to 16 bits. As x_k <= max(top1_k + b1_k, 0), a sum is at most
// rise = sum_k max(w_k, 0) max(top1_k + b1_k, 0) + b2: a fraction of what the overflow of partial sums is guarded
// against, and most of the 16 bits are used. shift2 is the least that takes rise, rounded, to 32767 or less; 2^(shift - 1)
// is in the bias, so that the shift rounds. Negative sums become 0. An output is the sum, in float32, of four partial sums
// in lanes of their own; in each of them the positive weights are rounded so that sum w (rise >> shift) < 2^31, and the
// negative ones in the same way. All of it depends on a frame's biases, and is packed with them.
#include <algorithm>
#include <cmath>
#include <vector>

#include "scene.hpp"

namespace {

constexpr double kMost = 32767.0;
constexpr int64_t kMostBias = (1 << 27) - 1;
constexpr int64_t kWeightSum = ((int64_t{1} << 31) - 1 - kMostBias) / 32767;
static_assert(kWeightSum * 32767 + kMostBias < int64_t{1} << 31, "second layer's sums fit 32 bits");
constexpr double kReachRounding = 10.0;
constexpr int64_t kMostRounding = 1 << 15;  // a sum below 2^31 loses 16 bits at most
constexpr int kActivitySamples = 1024;
constexpr int kPartialSums = 4;  // of an output, in lanes of their own (NetFixed::last)
constexpr double kMostOutput = 2147483647.0 - kHidden / 2 * kMost;  // rounding adds at most 1/2 to each weight

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

// Of each channel over a plane, then added up over the planes.
struct Extremes {
  double reach[kHidden] = {};  // largest |T|
  double top[kHidden] = {};    // largest T
};

// Units of the first layer: room for the texels' sums, a quarter more for the bias, and a share of the widest channel's
// range for the biases of narrow channels.
void choose_units(const Extremes& sums, FixedNet& net) {
  double widest = *std::max_element(sums.reach, sums.reach + kHidden);
  if (widest == 0.0) widest = 1.0;
  for (int o = 0; o < kHidden; o++) {
    net.unit1[o] = (1.25 * sums.reach[o] + 0.05 * widest) / (kMost - 4 * kReachRounding);
    net.reach1[o] = static_cast<int32_t>(std::ceil(sums.reach[o] / net.unit1[o]) + kReachRounding);
    net.top1[o] = static_cast<int32_t>(std::ceil(sums.top[o] / net.unit1[o]) + kReachRounding);
  }
}

// The first layer's products with all texels, [plane][texel][channel], and their extremes.
Extremes apply_layer_to_planes(const NlsField& field, float* sums) {
  const size_t texels = texel_count(field);
  const AlignedBuffer<float> columns = columns_of(field.w1);
  Extremes all;
  for (size_t plane = 0; plane < 3; plane++) {
    float most[kHidden], least[kHidden];
    std::fill(most, most + kHidden, -INFINITY);
    std::fill(least, least + kHidden, INFINITY);
    for (size_t t = plane * texels; t < (plane + 1) * texels; t++) {
      float* at = sums + t * kHidden;
      apply_layer(columns.get() + plane * kChannels * kHidden, field.planes + t * kChannels, at);
      for (int o = 0; o < kHidden; o++) most[o] = std::max(most[o], at[o]);
      for (int o = 0; o < kHidden; o++) least[o] = std::min(least[o], at[o]);
    }
    for (int o = 0; o < kHidden; o++) {
      all.reach[o] += std::max(std::abs(most[o]), std::abs(least[o]));
      all.top[o] += most[o];
    }
  }
  return all;
}

// Which channels are positive, a bit for each, at a voxel's nearest texels, without biases.
uint64_t active_channels(const NlsField& field, const float* sums, int voxel) {
  const int side = field.plane_side, grid = field.grid;
  const auto texel = [&](int at) { return (2 * at + 1) * (side - 1) / (2 * grid); };
  const int x = texel(voxel / (grid * grid)), y = texel(voxel / grid % grid), z = texel(voxel % grid);
  const int texels[3] = {y * side + x, (side + y) * side + z, (2 * side + z) * side + x};
  uint64_t active = 0;
  for (int o = 0; o < kHidden; o++) {
    float sum = 0.0f;
    for (const int t : texels) sum += sums[static_cast<size_t>(t) * kHidden + static_cast<size_t>(o)];
    active |= static_cast<uint64_t>(sum > 0.0f) << o;
  }
  return active;
}

// The same at some of the occupied voxels, spread over all of them.
std::vector<uint64_t> sample_activity(const NlsField& field, const float* sums) {
  const int voxels = field.grid * field.grid * field.grid;
  int occupied = 0, seen = 0;
  for (int i = 0; i < voxels; i++) occupied += field.occupancy[i] != 0;
  const int stride = occupied / kActivitySamples + 1;
  std::vector<uint64_t> active;
  for (int i = 0; i < voxels; i++)
    if (field.occupancy[i] && seen++ % stride == 0) active.push_back(active_channels(field, sums, i));
  return active;
}

// Stores channels that are positive together side by side, those first that most often are. Speed depends on it
// (NetFixed::dense leaves pairs of zeros out), results do not.
void pair_channels(const NlsField& field, const float* sums, FixedNet& net) {
  struct Pair {
    int together, a, b;
  };
  std::vector<Pair> pairs;
  const std::vector<uint64_t> active = sample_activity(field, sums);
  for (int a = 0; a < kHidden; a++)
    for (int b = a + 1; b < kHidden; b++) {
      int together = 0;
      for (const uint64_t bits : active) together += static_cast<int>(bits >> a & bits >> b & 1);
      pairs.push_back({together, a, b});
    }
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& p, const Pair& q) { return p.together > q.together; });
  std::fill(net.place1, net.place1 + kHidden, -1);
  int place = 0;
  for (const Pair& pair : pairs)
    if (net.place1[pair.a] < 0 && net.place1[pair.b] < 0) {
      net.place1[pair.a] = place++;
      net.place1[pair.b] = place++;
    }
}

// Where narrowing of two vectors of sums puts output o of a row: four of the first, four of the second, and so on.
int narrowed_place(int o, int lanes) {
  const int both = o / (2 * lanes) * 2 * lanes, second = o / lanes % 2, lane = o % lanes;
  return both + lane / 4 * 8 + second * 4 + lane % 4;
}

void pack_second(const NlsField& field, const KernelTable& table, FixedNet& net) {
  const int chunk = table.chunk;
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
      const int place = net.place1[k];
      const int at = o / chunk * chunk * kHidden + (place / 2 * chunk + o % chunk) * 2 + place % 2;
      net.w2[at] = static_cast<int16_t>(std::lrint(w));
      net.rise2[k * kHidden + o] = std::max(net.w2[at], int16_t{0});
    }
    net.place2[o] = narrowed_place(o, table.lanes);
    for (int out = 0; out < kOutputs; out++)
      net.w3_real[out * kHidden + o] = field.w3[out * kHidden + o] * net.unit2[o];
  }
}

// Shifts of the second layer's sums for a frame's biases, rounding in the biases; most[o]: the largest of 16 bits then.
void choose_shifts(FixedNet& net, int32_t (&most)[kHidden]) {
  int64_t rise[kHidden];
  for (int o = 0; o < kHidden; o++) rise[o] = net.b2[o];
  for (int k = 0; k < kHidden; k++) {
    const int64_t x = std::max(net.top1[k] + net.b1[net.place1[k]], 0);
    for (int o = 0; o < kHidden; o++) rise[o] += x * net.rise2[k * kHidden + o];
  }
  for (int o = 0; o < kHidden; o++) {
    int shift = 0;
    int64_t half = 0;
    while ((rise[o] + half) >> shift > 32767) half = int64_t{1} << shift++;
    net.shift2[o] = shift;
    net.b2[o] += static_cast<int32_t>(half);
    most[o] = static_cast<int32_t>(std::max((rise[o] + half) >> shift, int64_t{0}));
  }
}

// The least unit with which no partial sum of an output overflows: w[o] times 0..most[o], in lanes of their own.
double unit_of_output(const double (&w)[kHidden], const int32_t (&most)[kHidden], const int32_t (&place)[kHidden]) {
  double rise[kPartialSums] = {}, fall[kPartialSums] = {}, unit = 0.0;
  for (int o = 0; o < kHidden; o++) {
    double* const sums = w[o] > 0.0 ? rise : fall;
    sums[place[o] / 2 % kPartialSums] += std::abs(w[o]) * most[o];
    unit = std::max(unit, std::abs(w[o]) / kMost);
  }
  for (const double sum : rise) unit = std::max(unit, sum / kMostOutput);
  for (const double sum : fall) unit = std::max(unit, sum / kMostOutput);
  return unit > 0.0 ? unit : 1.0;
}

// The last layer's weights for sums so shifted, at most `most`.
void pack_last(const int32_t (&most)[kHidden], FixedNet& net) {
  for (int out = 0; out < kOutputs; out++) {
    double w[kHidden];
    for (int o = 0; o < kHidden; o++)
      w[o] = most[o] ? net.w3_real[out * kHidden + o] * (1 << net.shift2[o]) : 0.0;
    const double unit = unit_of_output(w, most, net.place2);
    net.unit3[out] = static_cast<float>(unit);
    for (int o = 0; o < kHidden; o++) {
      const int at = (net.place2[o] / 8 * kOutputs + out) * 8 + net.place2[o] % 8;
      net.w3[at] = static_cast<int16_t>(std::lrint(w[o] / unit));
    }
  }
}

}  // namespace

void pack_fixed(const NlsField& field, const KernelTable& table, FixedNet& net, AlignedBuffer<int16_t>& planes) {
  const size_t texels = texel_count(field);
  AlignedBuffer<float> sums(3 * texels * kHidden);
  choose_units(apply_layer_to_planes(field, sums.get()), net);
  pair_channels(field, sums.get(), net);
  planes.resize(3 * texels * kHidden);
  float scale[kHidden];
  for (int o = 0; o < kHidden; o++) scale[o] = static_cast<float>(1.0 / net.unit1[o]);
  for (size_t t = 0; t < 3 * texels; t++)
    for (size_t o = 0; o < kHidden; o++)
      planes.get()[t * kHidden + net.place1[o]] = static_cast<int16_t>(std::lrintf(sums.get()[t * kHidden + o] * scale[o]));
  pack_second(field, table, net);
  std::copy(field.b3, field.b3 + kOutputs, net.b3);
}

bool fit_biases(const NlsFrame& frame, FixedNet& net) {
  for (int o = 0; o < kHidden; o++) {
    const double b1 = frame.bias1[o] / net.unit1[o], b2 = frame.bias2[o] / net.unit2[o];
    if (std::abs(b1) > kMost - 1 - net.reach1[o] || std::abs(b2) > static_cast<double>(kMostBias - kMostRounding))
      return false;
    net.b1[net.place1[o]] = static_cast<int16_t>(std::lrint(b1));
    net.b2[o] = static_cast<int32_t>(std::lrint(b2));
  }
  int32_t most[kHidden];
  choose_shifts(net, most);
  pack_last(most, net);
  return true;
}
