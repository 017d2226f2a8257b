// Byte classes and vector searches for HTTP/1.1 heads and event streams, as static inline C.
// Every function reads only [p, p + n).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
  CBYTES_TOKEN = 1,  ///< tchar, RFC 9110 section 5.6.2
  CBYTES_PATH = 2,   ///< pchar without "%", and "/", RFC 3986 section 3.3
  CBYTES_QUERY = 4,  ///< visible ASCII but "#" and "%": browsers and curl leave brackets, braces and bars unescaped
  CBYTES_HOST = 8,   ///< unreserved, RFC 3986 section 2.3
};

/// The classes of each byte, as bits of the enum above.
static const uint8_t cbytes_http_class[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  7,  4,  1,  7,  1,  7,  7,  6,  6,  7,  7,  6, 15, 15,  6,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  6,  4,  6,  4,  4,
     6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  4,  4,  4,  5, 15,
     5, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  4,  5,  4, 15,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
};

/// True when `byte` belongs to one of the classes.
static inline _Bool cbytes_is_class(uint8_t byte, uint8_t class_bits) {
  return (cbytes_http_class[byte] & class_bits) != 0;
}

/// Length of the run of bytes at p that belong to one of the classes.
static inline size_t cbytes_class_run(const uint8_t *p, size_t n, uint8_t class_bits) {
  size_t i = 0;
  while (i < n && (cbytes_http_class[p[i]] & class_bits)) i++;
  return i;
}

/// Length of the run of token bytes at p. Letters, digits and hyphens go sixteen at a time.
static inline size_t cbytes_token_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i bit = _mm_set1_epi8(0x20);
  const __m128i below_a = _mm_set1_epi8('a' - 1), above_z = _mm_set1_epi8('z' + 1);
  const __m128i below_0 = _mm_set1_epi8('0' - 1), above_9 = _mm_set1_epi8('9' + 1);
  const __m128i hyphen = _mm_set1_epi8('-');
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i lower = _mm_or_si128(v, bit);
    // Signed comparisons: bytes from 0x80 are negative and fall below every range.
    __m128i good = _mm_and_si128(_mm_cmpgt_epi8(lower, below_a), _mm_cmpgt_epi8(above_z, lower));
    good = _mm_or_si128(good, _mm_and_si128(_mm_cmpgt_epi8(v, below_0), _mm_cmpgt_epi8(above_9, v)));
    good = _mm_or_si128(good, _mm_cmpeq_epi8(v, hyphen));
    unsigned other = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
    if (other) {
      i += (size_t)__builtin_ctz(other);
      break;
    }
    i += 16;
  }
#endif
  while (i < n && (cbytes_http_class[p[i]] & CBYTES_TOKEN)) i++;
  return i;
}

/// Offset of the first control byte but HTAB (RFC 9110 section 5.5) in [p, p + n); n if there is none.
/// `*high` becomes non-zero when a byte from 0x80 stands before it, or within 15 bytes after it.
static inline size_t cbytes_value_run(const uint8_t *p, size_t n, uint32_t *high) {
  size_t i = 0;
  uint32_t seen = 0;
#if defined(__SSE2__)
  const __m128i limit = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f), tab = _mm_set1_epi8(0x09);
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, limit), v);
    __m128i hit = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control), _mm_cmpeq_epi8(v, del));
    unsigned mask = (unsigned)_mm_movemask_epi8(hit);
    seen |= (uint32_t)_mm_movemask_epi8(v);
    if (mask) {
      *high = seen;
      return i + (size_t)__builtin_ctz(mask);
    }
    i += 16;
  }
#endif
  while (i < n && (p[i] >= 0x20 ? p[i] != 0x7f : p[i] == 0x09)) seen |= p[i++] & 0x80u;
  *high = seen;
  return i;
}

/// Offset of the first CR or LF in [p, p + n); n if there is none.
static inline size_t cbytes_line_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  // Bytes up to CR are rare in text: test for those four vectors at a time, and look closer only then.
  const __m128i limit = _mm_set1_epi8(0x0d), lf = _mm_set1_epi8(0x0a);
  while (i + 64 <= n) {
    __m128i a = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i b = _mm_loadu_si128((const __m128i *)(p + i + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(p + i + 32));
    __m128i d = _mm_loadu_si128((const __m128i *)(p + i + 48));
    __m128i least = _mm_min_epu8(_mm_min_epu8(a, b), _mm_min_epu8(c, d));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(least, limit), least))) {
      uint64_t low = (uint64_t)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(a, limit), _mm_cmpeq_epi8(a, lf)));
      low |= (uint64_t)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(b, limit), _mm_cmpeq_epi8(b, lf))) << 16;
      low |= (uint64_t)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(c, limit), _mm_cmpeq_epi8(c, lf))) << 32;
      low |= (uint64_t)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(d, limit), _mm_cmpeq_epi8(d, lf))) << 48;
      if (low) return i + (size_t)__builtin_ctzll(low);
    }
    i += 64;
  }
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, limit), _mm_cmpeq_epi8(v, lf)));
    if (mask) return i + (size_t)__builtin_ctz(mask);
    i += 16;
  }
#endif
  while (i < n && p[i] != '\r' && p[i] != '\n') i++;
  return i;
}
