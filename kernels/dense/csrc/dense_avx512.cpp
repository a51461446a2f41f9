// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx512.hpp"

#include "dense_attention.hpp"

extern const DenseTable kDenseAvx512 = dense_table<Avx512Lanes, 8, 2>(1);
