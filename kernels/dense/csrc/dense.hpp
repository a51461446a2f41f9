// A packed matrix, and what one call of a level reads.
//
// Plain structs only: this header is compiled with several -m flags, and an inline function emitted with the widest of
// them could be the copy the linker keeps for all.
#pragma once
#include "abi.h"

constexpr int kMostPanel = 32;  // outputs that a level computes at a time

// Rows of inputs, one for each row of outputs, and what becomes of their products.
struct DenseJob {
  const float* rows;
  long row_step, batch_step;  // floats from one row's inputs to the next's; rows may overlap (convolutions)
  int batch, frames;          // rows
  int inputs, outputs;
  const void* weights;  // [panel][input][output in panel]
  const float* bias;    // padded to whole panels
  const float* add;     // (batch, frames, outputs) or null
  float* y;             // the same
  int after;
};

struct DenseTable {
  int panel;   // outputs of a panel
  int halves;  // non-zero: reads weights in half precision
  // y = after(rows W^T + bias) + add for some panels; `halves`: weights are IEEE half, else float.
  void (*multiply)(const DenseJob& job, int halves, int first_panel, int end_panel);
  // Normalised and activated copies of the rows of `call`, with `pad` rows of zeros before and after each batch row.
  void (*prepare)(const NlsProduct& call, int pad, float* rows);
  unsigned long (*attend_floats)(const NlsAttention& call);  // scratch that attend wants
  void (*attend)(const NlsAttention& call, float* scratch);
};

// Defined in dense_*.cpp; CMake sets NLS_X86 where it builds the x86 ones.
extern const DenseTable kDensePortable;
#if NLS_X86
extern const DenseTable kDenseAvx2, kDenseAvx512;
#endif
