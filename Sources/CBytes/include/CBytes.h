// Vector byte searches as static inline C, because Swift's SIMD masks are lowered lane by lane.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CBytesHTTP.h"

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

/// Like cbytes_json_string_run, and sets *high to a value other than 0 when a byte of the run is 0x80 or above, so that
/// the caller validates UTF-8 only where there is any. 64 bytes a round: about 0.6 instructions a byte.
static inline size_t cbytes_json_text_run(const uint8_t *p, size_t n, uint32_t *high) {
  size_t i = 0;
  uint32_t seen = 0;
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i limit = _mm_set1_epi8(0x1f);
#define CBYTES_STOPS(v)                                                                            \
  _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)),               \
               _mm_cmpeq_epi8(_mm_min_epu8(v, limit), v))
  // Keys and short values end within the first step; long text goes on in the wide loop; its last 63 bytes in single steps.
  int wide = 0;
  while (i + 16 <= n) {
    if (wide && i + 64 <= n) {
      const __m128i *q = (const __m128i *)(p + i);
      __m128i a = _mm_loadu_si128(q), b = _mm_loadu_si128(q + 1);
      __m128i c = _mm_loadu_si128(q + 2), d = _mm_loadu_si128(q + 3);
      __m128i sa = CBYTES_STOPS(a), sb = CBYTES_STOPS(b), sc = CBYTES_STOPS(c), sd = CBYTES_STOPS(d);
      if (!_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(sa, sb), _mm_or_si128(sc, sd)))) {
        seen |= (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
        i += 64;
        continue;
      }
      wide = 0;
    }
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    uint32_t stops = (uint32_t)_mm_movemask_epi8(CBYTES_STOPS(v));
    uint32_t tops = (uint32_t)_mm_movemask_epi8(v);
    if (stops) {
      uint32_t at = (uint32_t)__builtin_ctz(stops);
      *high = seen | (tops & ((1u << at) - 1));
      return i + at;
    }
    seen |= tops;
    if (i == 0) wide = 1;
    i += 16;
  }
#undef CBYTES_STOPS
#endif
  while (i < n && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20) seen |= p[i++] & 0x80u;
  *high = seen;
  return i;
}

/// Length of the longest prefix of [p, p + n) that is valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most
/// U+10FFFF); n when all of it is. A sequence cut off by the end does not count.
static inline size_t cbytes_utf8_prefix(const uint8_t *p, size_t n) {
  size_t i = 0;
  while (i < n) {
    uint8_t lead = p[i];
    if (lead < 0x80) {
#if defined(__SSE2__)
      while (i + 16 <= n && !_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(p + i)))) i += 16;
#endif
      while (i < n && p[i] < 0x80) i++;
      continue;
    }
    size_t left = n - i;
    if (lead < 0xc2) return i;
    if (lead < 0xe0) {
      if (left < 2 || (p[i + 1] & 0xc0) != 0x80) return i;
      i += 2;
    } else if (lead < 0xf0) {
      uint8_t low = lead == 0xe0 ? 0xa0 : 0x80, top = lead == 0xed ? 0x9f : 0xbf;
      if (left < 3 || p[i + 1] < low || p[i + 1] > top || (p[i + 2] & 0xc0) != 0x80) return i;
      i += 3;
    } else {
      uint8_t low = lead == 0xf0 ? 0x90 : 0x80, top = lead == 0xf4 ? 0x8f : 0xbf;
      if (lead > 0xf4 || left < 4 || p[i + 1] < low || p[i + 1] > top) return i;
      if ((p[i + 2] & 0xc0) != 0x80 || (p[i + 3] & 0xc0) != 0x80) return i;
      i += 4;
    }
  }
  return n;
}

/// Offset of the first `byte` in [p, p + n); n if there is none.
static inline size_t cbytes_find(const uint8_t *p, size_t n, uint8_t byte) {
  const void *hit = memchr(p, byte, n);
  return hit ? (size_t)((const uint8_t *)hit - p) : n;
}
