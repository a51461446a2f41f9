// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx2.hpp"
#include "mlp.hpp"
#include "tile.hpp"

extern const KernelTable kAvx2Table = make_table<Avx2Lanes, NetF32<Avx2Lanes>>(NLS_AVX2);
