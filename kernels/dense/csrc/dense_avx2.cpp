// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx2.hpp"

#include "dense_attention.hpp"

extern const DenseTable kDenseAvx2 = dense_table<Avx2Lanes, 6, 2>(1);
