// Kinds of aarch64 instructions, for count_plugin.c. An instruction may be of several, as what loads from the stack is, or of none.

#ifndef TVM_RSQ_INSTRUCTION_KINDS_H_
#define TVM_RSQ_INSTRUCTION_KINDS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Kinds by their encodings in the Arm Architecture Reference Manual: an instruction is of a kind if word & mask == value for a pair of it.
// Streaming (SME) instructions are of none; SVE's prefetches are loads.
enum { DOT, MATMUL, MULTIPLY_LONG, MULTIPLY, PAIRWISE_ADD, TABLE, FLOAT, LOAD, STORE, STACK, BRANCH, KINDS };
static const char* const NAMES[KINDS] = {"dot",   "matmul", "multiply_long", "multiply", "pairwise_add", "table",
                                         "float", "load",   "store",         "stack",    "branch"};
static const struct { uint8_t kind; uint32_t mask, value; } ENCODINGS[] = {
    {DOT, 0x9f20fc00, 0x0e009400},            // sdot, udot of vectors
    {DOT, 0xbfe0fc00, 0x0e809c00},            // usdot of vectors
    {DOT, 0x9f00f400, 0x0f00e000},            // sdot, udot by element
    {DOT, 0xbf40f400, 0x0f00f000},            // sudot, usdot by element
    {DOT, 0xff00f800, 0x44000000},            // SVE: sdot, udot, vectors and indexed
    {DOT, 0xffe0fc00, 0x44807800},            // SVE: usdot
    {DOT, 0xffe0f800, 0x44a01800},            // SVE: sudot, usdot indexed
    {MATMUL, 0x9fe0f400, 0x0e80a400},         // smmla, ummla, usmmla
    {MATMUL, 0xff20fc00, 0x45009800},         // SVE: the same
    {MULTIPLY_LONG, 0x9f20fc00, 0x0e208000},  // smlal, umlal of vectors
    {MULTIPLY_LONG, 0x9f20fc00, 0x0e20a000},  // smlsl, umlsl
    {MULTIPLY_LONG, 0x9f20fc00, 0x0e20c000},  // smull, umull
    {MULTIPLY_LONG, 0x9f00f400, 0x0f002000},  // smlal, umlal by element
    {MULTIPLY_LONG, 0x9f00f400, 0x0f006000},  // smlsl, umlsl
    {MULTIPLY_LONG, 0x9f00f400, 0x0f00a000},  // smull, umull
    {MULTIPLY_LONG, 0xff20e000, 0x44004000},  // SVE2: smlalb ... umlslt
    {MULTIPLY_LONG, 0xff20f000, 0x45007000},  // SVE2: smullb ... umullt
    {MULTIPLY_LONG, 0xffa0c000, 0x44a08000},  // SVE2: smlalb ... umlslt indexed
    {MULTIPLY_LONG, 0xffa0e000, 0x44a0c000},  // SVE2: smullb ... umullt indexed
    {MULTIPLY, 0x9f20fc00, 0x0e209400},       // mla, mls of vectors
    {MULTIPLY, 0xbf20fc00, 0x0e209c00},       // mul
    {MULTIPLY, 0x9f20fc00, 0x0e20b400},       // sqdmulh, sqrdmulh
    {MULTIPLY, 0xbf00f400, 0x2f000000},       // mla by element
    {MULTIPLY, 0xbf00f400, 0x2f004000},       // mls
    {MULTIPLY, 0xbf00f400, 0x0f008000},       // mul
    {MULTIPLY, 0xbf00e400, 0x0f00c000},       // sqdmulh, sqrdmulh
    {PAIRWISE_ADD, 0x9f3ffc00, 0x0e202800},   // saddlp, uaddlp
    {PAIRWISE_ADD, 0x9f3ffc00, 0x0e206800},   // sadalp, uadalp
    {TABLE, 0xbfe08c00, 0x0e000000},          // tbl, tbx
    {TABLE, 0xff20fc00, 0x05203000},          // SVE: tbl of one vector
    {TABLE, 0xff20fc00, 0x05202800},          // SVE2: of two
    {FLOAT, 0xbf20fc00, 0x0e20cc00},          // fmla, fmls of vectors
    {FLOAT, 0xbfa0fc00, 0x2e20dc00},          // fmul
    {FLOAT, 0xbf80b400, 0x0f801000},          // fmla, fmls by element
    {FLOAT, 0xbf80f400, 0x0f809000},          // fmul
    {FLOAT, 0xbf60fc00, 0x0e400c00},          // fmla, fmls of half precision
    {FLOAT, 0xbfe0fc00, 0x2e401c00},          // fmul
    {FLOAT, 0xbfc0b400, 0x0f001000},          // fmla, fmls of half precision by element
    {FLOAT, 0xbfc0f400, 0x0f009000},          // fmul
    {FLOAT, 0xff20c000, 0x65200000},          // SVE: fmla, fmls
    {FLOAT, 0xff20f800, 0x64200000},          // SVE: fmla, fmls indexed
    {FLOAT, 0xff20fc00, 0x65000800},          // SVE: fmul
    {FLOAT, 0xff3fe000, 0x65028000},          // SVE: fmul under a predicate
    {FLOAT, 0xff20fc00, 0x64202000},          // SVE: fmul indexed
    {FLOAT, 0xff000000, 0x1f000000},          // fmadd and its like
    {FLOAT, 0xff20fc00, 0x1e200800},          // fmul of one number
    {BRANCH, 0x7c000000, 0x14000000},         // b, bl
    {BRANCH, 0xff000000, 0x54000000},         // b.cond
    {BRANCH, 0x7c000000, 0x34000000},         // cbz, cbnz, tbz, tbnz
    {BRANCH, 0xfe000000, 0xd6000000},         // br, blr, ret
};

// LOAD, STORE or KINDS for neither.
static int memory_access(uint32_t word) {
  bool vector = word >> 26 & 1, bit22 = word >> 22 & 1;
  unsigned group = word >> 27 & 7, opc = word >> 22 & 3, size = word >> 30;
  if ((word & 0x1e000000) == 0x04000000) return word >> 31 == 0 ? KINDS : word >> 29 == 7 ? STORE : LOAD;  // SVE
  if ((word & 0x0a000000) != 0x08000000) return KINDS;
  if (group == 3 && !(word >> 24 & 1)) return size == 3 && !vector ? KINDS : LOAD;       // literals; the last is prfm
  if ((group == 7 || group == 3) && !vector) {                                           // one register
    bool atomic = group == 7 && (word & 0x01200c00) == 0x00200000;
    if (size == 3 && opc == 2 && !atomic) return KINDS;                                  // prfm
    return opc || atomic ? LOAD : STORE;
  }
  return bit22 ? LOAD : STORE;
}

// Bit k: it is of kind k.
static uint32_t kinds_of(uint32_t word) {
  uint32_t found = 0;
  for (size_t i = 0; i < sizeof ENCODINGS / sizeof *ENCODINGS; i++) {
    if ((word & ENCODINGS[i].mask) == ENCODINGS[i].value) found |= 1u << ENCODINGS[i].kind;
  }
  int access = memory_access(word);
  if (access == KINDS) return found;
  bool has_base = (word & 0x3b000000) != 0x18000000;  // literals have none
  if (has_base && (word >> 5 & 31) == 31) found |= 1u << STACK;
  return found | 1u << access;
}

#endif  // TVM_RSQ_INSTRUCTION_KINDS_H_
