// Exponential, softplus and sigmoid over lanes; relative error about 1e-7.
#pragma once

namespace {

template <class L, int N>
inline typename L::F polynomial(const float (&c)[N], typename L::F x) {
  typename L::F y = L::set(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; i--) y = L::fma(y, x, L::set(c[i]));
  return y;
}

// exp(x) for x clamped to -80..88 (no subnormals here or in small multiples): 2^n 2^f with |f| <= 1/2.
template <class L>
inline typename L::F exponential(typename L::F x) {
  constexpr float kExp2[7] = {1.0f,           0.693147207f,   0.240226512f,  0.0555032721f,
                              0.0096180256f, 0.00134004322f, 0.00015469732f};
  x = L::min(L::max(x, L::set(-80.0f)), L::set(88.0f));
  const typename L::F y = x * L::set(1.44269504f);
  const typename L::F n = L::floor(y + L::set(0.5f));
  // x - n ln 2 in two parts, then back to base 2: keeps the relative error flat for large |x|.
  const typename L::F rest = L::fma(n, L::set(2.12194440e-4f), L::fma(n, L::set(-0.693359375f), x));
  return polynomial<L>(kExp2, rest * L::set(1.44269504f)) * L::pow2(n);
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)).
template <class L>
inline typename L::F softplus(typename L::F x) {
  constexpr float kLog1p[9] = {0.999999971f,  -0.499995015f, 0.333192713f,   -0.248443699f, 0.191114311f,
                               -0.136747697f, 0.078361668f,  -0.0295885074f, 0.0052534578f};
  const typename L::F zero = L::set(0.0f);
  const typename L::F e = exponential<L>(zero - L::abs(x));
  return L::fma(polynomial<L>(kLog1p, e), e, L::max(x, zero));
}

template <class L>
inline typename L::F sigmoid(typename L::F x) {
  return L::set(1.0f) / (L::set(1.0f) + exponential<L>(L::set(0.0f) - x));
}

}  // namespace
