// Vector byte searches and conversions as static inline C, because Swift's SIMD masks are lowered lane by lane.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CBytesHTTP.h"
#include "CBytesText.h"

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

#if defined(__SSE2__)
/// Zero in each lane that holds a quote, a control byte or a backslash: flipping bit 1 moves the quote to 0x20, right above
/// the control bytes and apart from space and '!', so that one saturating subtraction covers both.
static inline __m128i cbytes_json_stops(__m128i v) {
  return _mm_min_epu8(_mm_subs_epu8(_mm_xor_si128(v, _mm_set1_epi8(2)), _mm_set1_epi8(0x20)),
                      _mm_xor_si128(v, _mm_set1_epi8('\\')));
}

static inline uint32_t cbytes_zero_lanes(__m128i v) {
  return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128()));
}
#endif

/// Length of the string contents at p when a quote ends them within 16 bytes and they are plain ASCII; -1 when a closer
/// look is needed. Keys and most short values are such.
static inline int cbytes_json_short_string(const uint8_t *p, size_t n) {
#if defined(__SSE2__)
  if (n < 16) return -1;
  __m128i v = _mm_loadu_si128((const __m128i *)p);
  uint32_t stops = cbytes_zero_lanes(cbytes_json_stops(v));
  // Bits below the first stop; all bits when there is none.
  uint32_t before = ~stops & (stops - 1);
  if (!stops || ((uint32_t)_mm_movemask_epi8(v) & before)) return -1;
  int at = __builtin_ctz(stops);
  return p[at] == '"' ? at : -1;
#else
  (void)p;
  (void)n;
  return -1;
#endif
}

/// Like cbytes_json_string_run, and adds to *high a bit other than 0 when a byte of the run is 0x80 or above, so that the
/// caller validates UTF-8 only where there is any. 64 bytes a round in long text: about 0.6 instructions a byte.
static inline size_t cbytes_json_text_run(const uint8_t *p, size_t n, uint32_t *high) {
  size_t i = 0;
#if defined(__SSE2__)
  // Most runs end within a few single steps; long text goes on in the wide loop.
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    uint32_t stops = cbytes_zero_lanes(cbytes_json_stops(v));
    uint32_t tops = (uint32_t)_mm_movemask_epi8(v);
    if (stops) {
      *high |= tops & ~stops & (stops - 1);
      return i + (uint32_t)__builtin_ctz(stops);
    }
    *high |= tops;
    i += 16;
    if (i < 64) continue;
    __m128i seen = _mm_setzero_si128();
    while (i + 64 <= n) {
      const __m128i *q = (const __m128i *)(p + i);
      __m128i a = _mm_loadu_si128(q), b = _mm_loadu_si128(q + 1);
      __m128i c = _mm_loadu_si128(q + 2), d = _mm_loadu_si128(q + 3);
      if (cbytes_zero_lanes(_mm_min_epu8(_mm_min_epu8(cbytes_json_stops(a), cbytes_json_stops(b)),
                                         _mm_min_epu8(cbytes_json_stops(c), cbytes_json_stops(d)))))
        break;
      seen = _mm_or_si128(seen, _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
      i += 64;
    }
    *high |= (uint32_t)_mm_movemask_epi8(seen);
    // The stop is at most 64 bytes off: find it in single steps.
    for (int step = 0; step < 4 && i + 16 <= n; step++) {
      v = _mm_loadu_si128((const __m128i *)(p + i));
      stops = cbytes_zero_lanes(cbytes_json_stops(v));
      if (stops) break;
      *high |= (uint32_t)_mm_movemask_epi8(v);
      i += 16;
    }
  }
#endif
  while (i < n && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20) *high |= p[i++] & 0x80u;
  return i;
}

/// Goes on in string contents from offset i past text and the escapes of one letter. Returns where something else stands:
/// the closing quote, a \u escape, a wrong escape, a control byte, a backslash at the very end, or n. Adds to *high as
/// cbytes_json_text_run does; sets *escapes when an escape was passed.
static inline size_t cbytes_json_string_scan(const uint8_t *p, size_t n, size_t i, uint32_t *high, uint32_t *escapes) {
  for (;;) {
    i += cbytes_json_text_run(p + i, n - i, high);
    if (n - i < 2 || p[i] != '\\') return i;
    switch (p[i + 1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
      *escapes = 1;
      i += 2;
      break;
    default:
      return i;
    }
  }
}

/// Length of the longest prefix of [p, p + n) that is valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most
/// U+10FFFF); n when all of it is. A sequence cut off by the end does not count.
static inline size_t cbytes_utf8_prefix(const uint8_t *p, size_t n) {
  size_t i = 0;
  while (i < n) {
    // Most text that is not ASCII comes in sequences of three bytes: 1110xxxx 10xxxxxx 10xxxxxx, where the bits under
    // 0x0f 0x20 must not all be 0 (overlong) nor be 0x0d 0x20 (surrogates).
    while (n - i >= 4) {
      uint32_t word;
      memcpy(&word, p + i, 4);
      uint32_t bits = word & 0x00200fu;
      if ((word & 0xc0c0f0u) != 0x8080e0u || bits == 0 || bits == 0x00200du) break;
      i += 3;
    }
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

/// Offset of the first place in [p, p + n) where the m >= 2 bytes at text stand; n if there is none. Meant for short
/// texts whose first two bytes are rare together; memmem(3) takes five times as long for them.
static inline size_t cbytes_find_text(const uint8_t *p, size_t n, const uint8_t *text, size_t m) {
  if (n < m) return n;
  size_t i = 0, last = n - m;
#if defined(__SSE2__)
  const __m128i first = _mm_set1_epi8((char)text[0]), second = _mm_set1_epi8((char)text[1]);
  for (; i + 17 <= n; i += 16) {
    __m128i a = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p + i)), first);
    __m128i b = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p + i + 1)), second);
    for (unsigned hits = (unsigned)_mm_movemask_epi8(_mm_and_si128(a, b)); hits; hits &= hits - 1) {
      size_t at = i + (size_t)__builtin_ctz(hits);
      if (at > last) return n;
      if (memcmp(p + at, text, m) == 0) return at;
    }
  }
#endif
  for (; i <= last; i++) {
    if (p[i] == text[0] && memcmp(p + i, text, m) == 0) return i;
  }
  return n;
}

/// Writes the 16 lowercase hexadecimal digits of `value` at `out`, the highest first.
static inline void cbytes_hex(uint64_t value, uint8_t *out) {
#if defined(__SSE2__)
  __m128i bytes = _mm_cvtsi64_si128((long long)__builtin_bswap64(value));
  __m128i low = _mm_and_si128(bytes, _mm_set1_epi8(0x0f));
  __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(0x0f));
  __m128i nibbles = _mm_unpacklo_epi8(high, low);
  __m128i letters = _mm_and_si128(_mm_cmpgt_epi8(nibbles, _mm_set1_epi8(9)), _mm_set1_epi8('a' - '0' - 10));
  _mm_storeu_si128((__m128i *)out, _mm_add_epi8(_mm_add_epi8(nibbles, _mm_set1_epi8('0')), letters));
#else
  for (int i = 0; i < 16; i++) {
    uint8_t nibble = (uint8_t)(value >> (60 - 4 * i)) & 0x0f;
    out[i] = (uint8_t)(nibble < 10 ? '0' + nibble : 'a' + nibble - 10);
  }
#endif
}
