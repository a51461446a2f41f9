// Packs matrices, chooses a level's table and shares a product among threads. C ABI: see abi.h.
#include <algorithm>
#include <cstring>
#include <vector>

#include "aligned_buffer.hpp"
#include "dense.hpp"
#include "guarded.hpp"
#include "worker_pool.hpp"

struct NlsTeam {
  explicit NlsTeam(int threads) : pool(threads) {}
  WorkerPool pool;
};

namespace {

const DenseTable* table_of(int isa) {
  if (isa < 0 || isa >= NLS_ISA_COUNT || !(nls_instruction_sets() >> isa & 1)) return nullptr;
#if NLS_X86
  if (isa == NLS_AVX2 || isa == NLS_AVX2I16) return &kDenseAvx2;
  if (isa != NLS_PORTABLE) return &kDenseAvx512;
#endif
  return &kDensePortable;
}

// The half that equals `value`, if there is one.
bool as_half(float value, uint16_t& half) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000u, exponent = bits >> 23 & 255, mantissa = bits & 0x7fffffu;
  half = static_cast<uint16_t>(sign);
  if (exponent == 0 && mantissa == 0) return true;
  if (exponent >= 113 && exponent <= 142) {
    half = static_cast<uint16_t>(sign | (exponent - 112) << 10 | mantissa >> 13);
    return !(mantissa & 0x1fffu);
  }
  if (exponent < 103 || exponent > 142) return false;
  const uint32_t whole = mantissa | 0x800000u, shift = 126 - exponent;  // subnormal: a multiple of 2^-24
  half = static_cast<uint16_t>(sign | whole >> shift);
  return !(whole & ((1u << shift) - 1));
}

}  // namespace

struct NlsDense {
  NlsDense(const float* weight, const float* given_bias, int outputs_, int inputs_, const DenseTable& table_)
      : table(table_), outputs(outputs_), inputs(inputs_) {
    const int panel = table.panel;
    panels = (outputs + panel - 1) / panel;
    const size_t count = static_cast<size_t>(panels) * panel * inputs;
    bias.resize(static_cast<size_t>(panels) * panel);
    if (given_bias) std::copy(given_bias, given_bias + outputs, bias.get());
    if (table.halves) {
      half.resize(count);
      is_half = fill(weight, [&](size_t at, float value) { return as_half(value, half.get()[at]); });
      if (!is_half) half.resize(0);
    }
    if (is_half) return;
    single.resize(count);
    fill(weight, [&](size_t at, float value) {
      single.get()[at] = value;
      return true;
    });
  }

  const void* weights() const { return is_half ? static_cast<const void*>(half.get()) : single.get(); }

  const DenseTable& table;
  int outputs, inputs, panels = 0;
  bool is_half = false;
  AlignedBuffer<uint16_t> half;
  AlignedBuffer<float> single;
  AlignedBuffer<float> bias;

 private:
  template <class Put>
  bool fill(const float* weight, const Put& put) const {
    const int panel = table.panel;
    for (int out = 0; out < outputs; out++)
      for (int in = 0; in < inputs; in++) {
        const size_t at = (static_cast<size_t>(out / panel) * inputs + in) * panel + out % panel;
        if (!put(at, weight[static_cast<size_t>(out) * inputs + in])) return false;
      }
    return true;
  }
};

int32_t nls_team_create(int32_t threads, NlsTeam** team) {
  if (!team || threads < 1) return NLS_BAD_ARGUMENT;
  return guarded([&] { *team = new NlsTeam(threads); });
}

void nls_team_destroy(NlsTeam* team) { delete team; }

int32_t nls_dense_create(const float* weight, const float* bias, int32_t outputs, int32_t inputs, int32_t isa,
                         NlsDense** dense) {
  if (!weight || !dense || outputs < 1 || inputs < 1) return NLS_BAD_ARGUMENT;
  const DenseTable* table = table_of(isa);
  if (!table) return NLS_UNSUPPORTED;
  return guarded([&] { *dense = new NlsDense(weight, bias, outputs, inputs, *table); });
}

void nls_dense_destroy(NlsDense* dense) { delete dense; }

int64_t nls_dense_bytes(const NlsDense* dense) {
  const int64_t count = static_cast<int64_t>(dense->panels) * dense->table.panel;
  return count * dense->inputs * (dense->is_half ? 2 : 4) + count * 4;
}

int32_t nls_dense_run(const NlsDense* dense, NlsTeam* team, const NlsProduct* call, float* y) {
  if (!dense || !call || !call->x || !y || call->batch < 0 || call->frames < 1 || call->channels < 1 ||
      call->taps < 1 || call->taps % 2 == 0 || call->stride < 1 || call->channels * call->taps != dense->inputs ||
      (call->scale && !call->shift))
    return NLS_BAD_ARGUMENT;
  if (call->batch == 0) return NLS_OK;
  return guarded([&] {
    const int pad = call->taps / 2;
    const long step = static_cast<long>(call->frames + 2 * pad) * call->channels;
    AlignedBuffer<float> rows;
    DenseJob job{};
    job.rows = call->x;
    if (pad || call->scale || call->before) {
      rows.resize(static_cast<size_t>(step) * call->batch);
      dense->table.prepare(*call, pad, rows.get());
      job.rows = rows.get();
    }
    job.row_step = static_cast<long>(call->stride) * call->channels, job.batch_step = step;
    job.batch = call->batch, job.frames = (call->frames - 1) / call->stride + 1;
    job.inputs = dense->inputs, job.outputs = dense->outputs;
    job.weights = dense->weights(), job.bias = dense->bias.get();
    job.add = call->add, job.y = y, job.after = call->after;
    if (!team || team->pool.workers() == 1) return dense->table.multiply(job, dense->is_half, 0, dense->panels);
    const int workers = team->pool.workers();
    team->pool.run([&](int worker) {
      const auto cut = [&](int at) { return static_cast<int>(static_cast<int64_t>(dense->panels) * at / workers); };
      dense->table.multiply(job, dense->is_half, cut(worker), cut(worker + 1));
    });
  });
}

int32_t nls_attend(const NlsAttention* call, int32_t isa) {
  if (!call || !call->q || !call->k || !call->v || !call->out || call->batch < 0 || call->queries < 0 ||
      call->keys < 1 || call->heads < 1 || call->size < 1)
    return NLS_BAD_ARGUMENT;
  const DenseTable* table = table_of(isa);
  if (!table) return NLS_UNSUPPORTED;
  return guarded([&] {
    AlignedBuffer<float> scratch(table->attend_floats(*call));
    table->attend(*call, scratch.get());
  });
}
