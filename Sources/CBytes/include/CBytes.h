// Vector byte searches as static inline C, because Swift's SIMD masks are lowered lane by lane.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// Offset of the first byte in [p, p + n) that is a quote, a backslash or a control byte (< 0x20); n if there is none.
/// These are the bytes that end or interrupt a run inside a JSON string (RFC 8259 section 7).
static inline size_t cbytes_json_string_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i limit = _mm_set1_epi8(0x1f);
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i hit = _mm_or_si128(
        _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)),
        _mm_cmpeq_epi8(_mm_min_epu8(v, limit), v));
    int mask = _mm_movemask_epi8(hit);
    if (mask) return i + (size_t)__builtin_ctz((unsigned)mask);
    i += 16;
  }
#endif
  while (i < n && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20) i++;
  return i;
}

/// Offset of the first `byte` in [p, p + n); n if there is none.
static inline size_t cbytes_find(const uint8_t *p, size_t n, uint8_t byte) {
  const void *hit = memchr(p, byte, n);
  return hit ? (size_t)((const uint8_t *)hit - p) : n;
}
