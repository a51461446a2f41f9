// Drives libnlsmarch's sources under sanitizers: every level of this machine over fields, frames and pictures whose
// arrays are exactly as large as they must be. Prints what it did; exits with 1 at the first wrong result.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "scene.hpp"

namespace {

typedef std::mt19937 Random;

void require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

std::vector<float> normal(Random& random, size_t count, float scale) {
  std::normal_distribution<float> draw(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = draw(random);
  return values;
}

struct Field {
  std::vector<uint16_t> planes;
  std::vector<float> w1, w2, w3, b3;
  std::vector<uint8_t> occupancy, matter;
  NlsField view{};

  Field(Random& random, int side, int grid, double fill, int matter_grid = 0) {
    planes.resize(3u * side * side * kChannels);
    for (uint16_t& texel : planes) texel = static_cast<uint16_t>((random() & 0x83ff) | 0x3800);  // half, 1/2 <= |x| < 1
    w1 = normal(random, kHidden * kFeatures, 0.2f);
    w2 = normal(random, kHidden * kHidden, 0.2f);
    w3 = normal(random, kOutputs * kHidden, 0.2f);
    b3 = {1.0f, 0.1f, -0.2f, 0.3f};
    occupancy.resize(static_cast<size_t>(grid) * grid * grid);
    std::bernoulli_distribution filled(fill);
    for (uint8_t& voxel : occupancy) voxel = filled(random);
    matter.resize(static_cast<size_t>(matter_grid) * matter_grid * matter_grid);
    for (uint8_t& voxel : matter) voxel = random() % 2;
    view = {planes.data(), w1.data(), w2.data(), w3.data(), b3.data(), occupancy.data(),
            matter_grid ? matter.data() : nullptr, side, grid, matter_grid, {-1, -1, -1}, {1, 1, 1},
            {-0.9f, -0.8f, -0.7f}, {0.7f, 0.8f, 0.9f}, 20.0f, 2.0f / 96, 0.05f};
    if (std::none_of(occupancy.begin(), occupancy.end(), [](uint8_t v) { return v; }))
      std::fill(view.box_hi, view.box_hi + 3, -1.0f);
  }
};

struct Frame {
  std::vector<float> bias1, bias2, warp;
  NlsFrame view{};

  Frame(Random& random, int height, int width, float distance) {
    bias1 = normal(random, kHidden, 0.3f);
    bias2 = normal(random, kHidden, 0.3f);
    warp = normal(random, 5 * 4 * 6 * 3, 0.05f);
    const float size = static_cast<float>(std::max(height, width));
    view = {bias1.data(), bias2.data(), warp.data(), {5, 4, 6}, {1, 0, 0, 0.02f, 0, -1, 0, 0.01f, 0, 0, -1, distance},
            1.3f * size,  1.2f * size,  0.5f * width, 0.5f * height, height, width, 1};
  }
};

std::vector<float> render(const Field& field, const Frame& frame, int isa, int threads) {
  NlsScene* scene = nullptr;
  require(nls_scene_create(&field.view, isa, threads, &scene) == NLS_OK, "nls_scene_create");
  std::vector<float> first(4u * frame.view.height * frame.view.width, -1.0f), again = first;
  NlsStats stats;
  require(nls_scene_render(scene, &frame.view, first.data(), &stats) == NLS_OK, "nls_scene_render");
  require(nls_scene_render(scene, &frame.view, again.data(), nullptr) == NLS_OK, "nls_scene_render");
  nls_scene_destroy(scene);
  require(first == again, "a frame rendered twice is the same");
  for (const float value : first) require(value >= 0.0f && value <= 1.001f, "pixels lie within 0..1");
  return first;
}

// Which voxels a frame keeps, after another frame with more nodes.
std::vector<uint8_t> kept_voxels(const Field& field, const Frame& frame, int isa, int threads) {
  NlsScene* scene = nullptr;
  require(nls_scene_create(&field.view, isa, threads, &scene) == NLS_OK, "nls_scene_create");
  Random random(3);
  Frame other(random, 4, 4, 3.0f);
  other.warp = normal(random, 9 * 11 * 3 * 3, 0.3f);
  other.view.warp = other.warp.data();
  const int32_t nodes[3] = {9, 11, 3};
  std::copy(nodes, nodes + 3, other.view.warp_nodes);
  std::vector<uint8_t> kept(field.occupancy.size(), 7);
  for (const Frame* each : {&frame, static_cast<const Frame*>(&other), &frame})
    require(nls_scene_occupancy(scene, &each->view, kept.data()) == NLS_OK, "nls_scene_occupancy");
  nls_scene_destroy(scene);
  for (size_t i = 0; i < kept.size(); i++) require(kept[i] <= field.occupancy[i], "a frame keeps what is occupied");
  return kept;
}

double error_of(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

// The largest mean square difference from portable code.
double check_renders(int isa, Random random) {
  double worst = 0.0;
  const int sides[] = {2, 16, 33}, grids[] = {1, 16, 40}, matter_grids[] = {5, 0, 37};
  const int sizes[][2] = {{1, 1}, {7, 9}, {30, 33}};
  for (int turn = 0; turn < 3; turn++) {
    Field field(random, sides[turn], grids[turn], turn ? 0.3 : 1.0, matter_grids[turn]);
    for (const auto& size : sizes)
      for (const float distance : {3.0f, 0.3f}) {
        const Frame frame(random, size[0], size[1], distance);
        const auto expected = render(field, frame, NLS_PORTABLE, 1), got = render(field, frame, isa, 1);
        worst = std::max(worst, error_of(expected, got));
        require(render(field, frame, isa, 3) == got, "threads change nothing");
        const auto kept = kept_voxels(field, frame, NLS_PORTABLE, 1);
        require(kept_voxels(field, frame, isa, 1) == kept, "every level keeps the same voxels");
        require(kept_voxels(field, frame, isa, 3) == kept, "whatever the threads");
      }
    Frame wild(random, 20, 20, 3.0f);
    wild.bias1[3] = 1e6f;  // beyond fixed point
    render(field, wild, isa, 2);
  }
  const Field empty(random, 4, 8, 0.0);
  const auto nothing = render(empty, Frame(random, 17, 18, 3.0f), isa, 1);
  require(std::all_of(nothing.begin(), nothing.end(), [](float v) { return v == 0.0f; }), "nothing is transparent");
  return worst;
}

void check_color(int isa, Random& random) {
  for (const int width : {2, 30, 258, 520}) {
    const std::vector<float> rgba = normal(random, 4u * 6 * width, 0.7f);
    const std::vector<uint8_t> under(3u * 6 * width, 77);
    std::vector<uint8_t> out(static_cast<size_t>(9) * width);
    require(nls_composite_i420(rgba.data(), under.data(), 6, width, out.data(), isa) == NLS_OK, "nls_composite_i420");
  }
}

void check_layer(Random& random) {
  for (const int nodes : {2, 9, 64}) {
    const std::vector<uint8_t> layer(4u * 21 * 21, 120), background(3u * 13 * 31, 200);
    const std::vector<float> grid = normal(random, 2u * nodes * nodes, 0.5f);
    std::vector<uint8_t> out(background.size());
    require(nls_warp_layer(layer.data(), 21, grid.data(), nodes, background.data(), 13, 31, out.data()) == NLS_OK,
            "nls_warp_layer");
  }
}

// Every kind of product and attention, on arrays that are exactly as large as they must be.
void check_dense(int isa, Random& random) {
  NlsTeam* team = nullptr;
  require(nls_team_create(3, &team) == NLS_OK, "nls_team_create");
  for (const int outputs : {1, 33, 130})
    for (const int taps : {1, 3}) {
      const int channels = 13, batch = 2, frames = 7, stride = taps == 3 ? 2 : 1, rows = (frames - 1) / stride + 1;
      std::vector<float> weight = normal(random, static_cast<size_t>(outputs) * taps * channels, 1.0f);
      if (outputs == 33) std::fill(weight.begin(), weight.end(), 0.5f);  // halves
      const auto x = normal(random, batch * frames * channels, 1.0f), norm = normal(random, batch * channels, 1.0f);
      const auto bias = normal(random, static_cast<size_t>(outputs), 1.0f);
      const auto add = normal(random, static_cast<size_t>(batch) * rows * outputs, 1.0f);
      NlsDense* dense = nullptr;
      require(nls_dense_create(weight.data(), bias.data(), outputs, taps * channels, isa, &dense) == NLS_OK, "create");
      NlsProduct call{x.data(), nullptr, nullptr, nullptr, 1e-5f, 0, batch, frames, channels, taps, stride, 0, 0};
      std::vector<float> one(add.size()), shared(add.size());
      require(nls_dense_run(dense, nullptr, &call, one.data()) == NLS_OK, "nls_dense_run");
      call.scale = call.shift = norm.data(), call.scale_step = channels, call.add = add.data();
      call.before = NLS_SILU, call.after = NLS_GELU;
      require(nls_dense_run(dense, nullptr, &call, one.data()) == NLS_OK, "nls_dense_run");
      require(nls_dense_run(dense, team, &call, shared.data()) == NLS_OK, "nls_dense_run");
      require(one == shared, "threads change nothing in a product");
      call.taps = 2;
      require(nls_dense_run(dense, nullptr, &call, one.data()) == NLS_BAD_ARGUMENT, "even taps");
      nls_dense_destroy(dense);
    }
  nls_team_destroy(team);
  for (const int keys : {1, 9, 48}) {
    const int queries = 7, heads = 2, size = 11;
    const auto q = normal(random, queries * heads * size, 1.0f), k = normal(random, keys * heads * size, 1.0f);
    const std::vector<float> bias(static_cast<size_t>(keys), 0.5f);
    std::vector<float> out(q.size());
    const NlsAttention call{q.data(), k.data(), k.data(), bias.data(), out.data(), 0, heads * size, 0, heads * size,
                            0,        heads * size, 1,    queries,     keys,       heads, size, 0.3f};
    require(nls_attend(&call, isa) == NLS_OK, "nls_attend");
  }
}

// Callers on threads of their own, each with a team, share one packed matrix; the residual is added in place.
void check_callers(int isa, Random& random) {
  const int outputs = 130, channels = 24, frames = 9, callers = 3;
  const auto weight = normal(random, outputs * channels, 1.0f), x = normal(random, frames * channels, 1.0f);
  const auto add = normal(random, frames * outputs, 1.0f);
  NlsDense* dense = nullptr;
  require(nls_dense_create(weight.data(), nullptr, outputs, channels, isa, &dense) == NLS_OK, "nls_dense_create");
  std::vector<std::vector<float>> made(callers, add), heard(callers, std::vector<float>(x.size()));
  const auto work = [&](int caller) {
    std::vector<float>&y = made[static_cast<size_t>(caller)], &out = heard[static_cast<size_t>(caller)];
    NlsTeam* team = nullptr;
    require(nls_team_create(1 + caller, &team) == NLS_OK, "nls_team_create");
    const NlsProduct call{x.data(), nullptr, nullptr, y.data(), 0, 0, 1, frames, channels, 1, 1, NLS_GELU, NLS_NONE};
    for (int turn = 0; turn < 20; turn++) require(nls_dense_run(dense, team, &call, y.data()) == NLS_OK, "product");
    nls_team_destroy(team);
    const NlsAttention attention{x.data(), x.data(), x.data(), nullptr, out.data(), 0, channels, 0, channels,
                                 0,        channels, 1,        frames,  frames,     2, 12,       0.3f};
    require(nls_attend(&attention, isa) == NLS_OK, "nls_attend");
  };
  std::vector<std::thread> threads;
  for (int caller = 1; caller < callers; caller++) threads.emplace_back(work, caller);
  work(0);
  for (std::thread& thread : threads) thread.join();
  for (int caller = 1; caller < callers; caller++)
    require(made[static_cast<size_t>(caller)] == made[0] && heard[static_cast<size_t>(caller)] == heard[0],
            "callers of one matrix get the same");
  nls_dense_destroy(dense);
}

void check_distance(Random& random) {
  for (const int grid : {1, 2, 5, 13}) {
    const Field field(random, 2, grid, 0.02);
    int bits = 0;
    while (1 << bits < grid) bits++;
    std::vector<uint8_t> distance(size_t{1} << (3 * bits));
    chebyshev_distance(field.occupancy.data(), grid, bits, distance.data());
    for (int i = 0; i < grid * grid * grid; i++) {
      const int x = i / (grid * grid), y = i / grid % grid, z = i % grid;
      int least = 255;
      for (int j = 0; j < grid * grid * grid; j++)
        if (field.occupancy[static_cast<size_t>(j)])
          least = std::min(least, std::max({std::abs(x - j / (grid * grid)), std::abs(y - j / grid % grid),
                                            std::abs(z - j % grid)}));
      require(distance[static_cast<size_t>(((x << bits | y) << bits) | z)] == least, "distance field is exact");
    }
  }
}

void check_refusals(Random& random) {
  Field field(random, 4, 4, 0.5);
  Frame frame(random, 4, 4, 3.0f);
  NlsScene* scene = nullptr;
  require(nls_scene_create(nullptr, 0, 1, &scene) == NLS_BAD_ARGUMENT, "no field");
  require(nls_scene_create(&field.view, NLS_ISA_COUNT, 1, &scene) == NLS_UNSUPPORTED, "no such level");
  require(nls_scene_create(&field.view, 0, 0, &scene) == NLS_BAD_ARGUMENT, "no threads");
  field.view.matter = field.occupancy.data();
  require(nls_scene_create(&field.view, 0, 1, &scene) == NLS_BAD_ARGUMENT, "matter without a grid");
  field.view.matter = nullptr;
  require(nls_scene_create(&field.view, 0, 1, &scene) == NLS_OK, "nls_scene_create");
  std::vector<float> out(64);
  frame.view.width = 0;
  require(nls_scene_render(scene, &frame.view, out.data(), nullptr) == NLS_BAD_ARGUMENT, "no width");
  frame.view.width = 4;
  std::vector<uint8_t> kept(64);
  require(nls_scene_occupancy(scene, &frame.view, nullptr) == NLS_BAD_ARGUMENT, "nowhere to put voxels");
  frame.view.warp_nodes[1] = 1;
  require(nls_scene_occupancy(scene, &frame.view, kept.data()) == NLS_BAD_ARGUMENT, "one node");
  require(nls_scene_render(scene, &frame.view, out.data(), nullptr) == NLS_BAD_ARGUMENT, "one node");
  nls_scene_destroy(scene);
}

}  // namespace

int main() {
  Random random(7);
  const uint32_t sets = nls_instruction_sets();
  for (int isa = 0; isa < NLS_ISA_COUNT; isa++) {
    require((nls_peak(isa, 10) > 0) == (sets >> isa & 1), "nls_peak runs where the level does");
    if (!(sets >> isa & 1)) continue;
    const double worst = check_renders(isa, random);
    std::printf("level %d: mean square difference at most %.2g\n", isa, worst);
    require(worst < 1e-4, "a level agrees with portable code");
    check_color(isa, random);
    check_dense(isa, random);
    check_callers(isa, random);
  }
  check_layer(random);
  check_distance(random);
  check_refusals(random);
  std::printf("ok\n");
  return 0;
}
