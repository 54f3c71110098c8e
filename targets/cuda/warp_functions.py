"""Functions of CUDA C++ that kernels call: products of bytes on tensor cores, and loads of rows that may end anywhere.

Each is given with its source, so that whatever calls it compiles. RSQ_EMULATED is defined where the source is run by a CPU, which has
functions of its own instead of the instructions of tensor cores.
"""

from __future__ import annotations

from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.ir import Expr

# Of PTX's mma.m16n8k32: a lane holds, of A, bytes 4t ... 4t+3 and 16+4t ... of rows g and g + 8, of B the same bytes of column g, of C
# columns 2t and 2t + 1 of rows g and g + 8; g = lane / 4, t = lane % 4. Chips before sm_80 have m8n8k16, of which four do the same.
_MMA = r"""
__device__ __forceinline__ void rsq_mma_m16n8k32(int* c, const unsigned* upper, const unsigned* lower, const unsigned* b) {
#if defined(RSQ_EMULATED)
  rsq_emulated_m16n8k32(c, upper, lower, b);
#else
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(upper[0]), "r"(lower[0]), "r"(upper[1]), "r"(lower[1]), "r"(b[0]), "r"(b[1]));
#endif
}
__device__ __forceinline__ void rsq_mma_m8n8k16(int* c, unsigned a, unsigned b) {
#if defined(RSQ_EMULATED)
  rsq_emulated_m8n8k16(c, a, b);
#else
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+r"(c[0]), "+r"(c[1]) : "r"(a), "r"(b));
#endif
}
__device__ __forceinline__ void rsq_mma(int* c, const unsigned* upper, const unsigned* lower, const unsigned* b) {
#if __CUDA_ARCH__ >= 800
  rsq_mma_m16n8k32(c, upper, lower, b);
#else
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    rsq_mma_m8n8k16(c, upper[k], b[k]);
    rsq_mma_m8n8k16(c + 2, lower[k], b[k]);
  }
#endif
}
"""

# The first `valid` of 16 bytes, in loads of so many; what lies behind them, and in front of `first`, is `pad`.
_LOADS = {
    16: r"""
__device__ __forceinline__ void rsq_load_16(unsigned* out, const signed char* from, int valid, unsigned pad) {
  uint4 v = valid > 0 ? *(const uint4*)from : make_uint4(pad, pad, pad, pad);
  out[0] = v.x; out[1] = v.y; out[2] = v.z; out[3] = v.w;
}
""",
    8: r"""
__device__ __forceinline__ void rsq_load_8(unsigned* out, const signed char* from, int valid, unsigned pad) {
  uint2 v = valid > 0 ? *(const uint2*)from : make_uint2(pad, pad);
  uint2 u = valid > 8 ? *(const uint2*)(from + 8) : make_uint2(pad, pad);
  out[0] = v.x; out[1] = v.y; out[2] = u.x; out[3] = u.y;
}
""",
    4: r"""
__device__ __forceinline__ void rsq_load_4(unsigned* out, const signed char* from, int valid, unsigned pad) {
#pragma unroll
  for (int i = 0; i < 4; ++i) out[i] = valid > 4 * i ? *(const unsigned*)(from + 4 * i) : pad;
}
""",
    # Whole words, put together of two neighbours each; only those that hold a byte that is there are read.
    1: r"""
__device__ __forceinline__ void rsq_load_1(unsigned* out, const signed char* from, int first, int valid, unsigned pad) {
  int ahead = (int)((size_t)from & 3);
  const unsigned* words = (const unsigned*)(from - ahead);
  unsigned w[5];
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    int start = 4 * i - ahead;
    w[i] = max(first, start) < min(valid, start + 4) ? words[i] : 0;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) out[i] = __funnelshift_r(w[i], w[i + 1], 8 * ahead);
  if (first > 0 || valid < 16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int low = min(max(first - 4 * i, 0), 4), high = min(max(valid - 4 * i, low), 4);
      unsigned mask = (unsigned)((1ull << 8 * high) - (1ull << 8 * low));
      out[i] = (out[i] & mask) | (pad & ~mask);
    }
  }
}
""",
}


def address(buffer: Expr, index: Expr | int) -> Expr:
    """&buffer[index]"""
    return tirx.address_of(buffer[index])


def mma(sums: Expr, upper: Expr, lower: Expr, weights: Expr) -> Expr:
    """A call: sums (4 int32) += products of 32 bytes; pointers to the lane's words of row g, of row g + 8 and of column g."""
    return cuda_func_call("rsq_mma", sums, upper, lower, weights, source_code=_MMA)


def load_bytes(out: Expr, source: Expr, first: Expr | int, valid: Expr, pad: int, grain: int) -> Expr:
    """A call: 16 bytes of `source` into the four words at `out`, of which those before `first` and from `valid` on are `pad`.

    grain  16, 8, 4 or 1: what the address and `valid` are multiples of. Only bytes of one load are told apart from `first` on, so it is 0
           where grain > 1
    """
    word = tirx.const(int.from_bytes(bytes([pad & 0xFF]) * 4, "little"), "uint32")
    where = (first, valid) if grain == 1 else (valid,)
    return cuda_func_call(f"rsq_load_{grain}", out, source, *where, word, source_code=_LOADS[grain])
