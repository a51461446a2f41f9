// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_portable.hpp"

#include "dense_attention.hpp"

extern const DenseTable kDensePortable = dense_table<PortableLanes, 4, 2>(0);
