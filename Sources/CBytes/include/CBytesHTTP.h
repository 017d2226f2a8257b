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

#if defined(__SSE2__)
/// All-ones in each byte of v that lies in first...last, by one wrapping addition and one signed comparison.
static inline __m128i cbytes_in_range(__m128i v, uint8_t first, uint8_t last) {
  const __m128i shift = _mm_set1_epi8((char)(0x80 - first)), bound = _mm_set1_epi8((char)(0x81 + last - first));
  return _mm_cmpgt_epi8(bound, _mm_add_epi8(v, shift));
}

/// A bit for each of 16 bytes that is no letter, digit or one of "-./".
static inline unsigned cbytes_unusual(const uint8_t *p) {
  __m128i v = _mm_loadu_si128((const __m128i *)p);
  __m128i letters = cbytes_in_range(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 'z');
  return (unsigned)_mm_movemask_epi8(_mm_or_si128(letters, cbytes_in_range(v, '-', '9'))) ^ 0xffffu;
}
#endif

/// Length of the run of bytes at p that belong to one of the classes.
static inline size_t cbytes_class_run(const uint8_t *p, size_t n, uint8_t class_bits) {
  size_t i = 0;
  while (i < n && (cbytes_http_class[p[i]] & class_bits)) i++;
  return i;
}

/// Length of the run of path bytes at p. Letters, digits and "-./" go sixteen at a time.
static inline size_t cbytes_path_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  while (i + 16 <= n) {
    unsigned unusual = cbytes_unusual(p + i);
    if (unusual) {
      i += (size_t)__builtin_ctz(unusual);
      break;
    }
    i += 16;
  }
#endif
  return i + cbytes_class_run(p + i, n - i, CBYTES_PATH);
}

/// Length of the run of token bytes at p; meant for field names, which end with a colon.
static inline size_t cbytes_token_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i slash = _mm_set1_epi8('/');
  while (i + 16 <= n) {
    unsigned unusual = cbytes_unusual(p + i);
    unusual |= (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p + i)), slash));
    if (unusual) {
      i += (size_t)__builtin_ctz(unusual);
      if (p[i] == ':') return i;
      break;
    }
    i += 16;
  }
#endif
  return i + cbytes_class_run(p + i, n - i, CBYTES_TOKEN);
}

/// Offset of the first control byte but HTAB (RFC 9110 section 5.5) in [p, p + n); n if there is none.
/// `*high` becomes non-zero when a byte from 0x80 stands before it.
static inline size_t cbytes_value_run(const uint8_t *p, size_t n, uint32_t *high) {
  size_t i = 0;
#if defined(__SSE2__)
  // Signed, so that control bytes and bytes from 0x80 fall below the space alike.
  const __m128i space = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f);
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    unsigned mask =
        (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpgt_epi8(space, v), _mm_cmpeq_epi8(v, del)));
    if (mask) {
      i += (size_t)__builtin_ctz(mask);
      if (p[i] < 0x80 && p[i] != 0x09) return i;
      *high |= p[i] & 0x80u;
      i++;
    } else {
      i += 16;
    }
  }
#endif
  while (i < n && (p[i] >= 0x20 ? p[i] != 0x7f : p[i] == 0x09)) *high |= p[i++] & 0x80u;
  return i;
}

#if defined(__SSE2__)
/// A bit for each of 16 bytes that is CR or LF.
static inline unsigned cbytes_line_ends(__m128i v) {
  __m128i cr = _mm_cmpeq_epi8(v, _mm_set1_epi8('\r')), lf = _mm_cmpeq_epi8(v, _mm_set1_epi8('\n'));
  return (unsigned)_mm_movemask_epi8(_mm_or_si128(cr, lf));
}
#endif

/// Offset of the first CR or LF in [p, p + n); n if there is none.
static inline size_t cbytes_line_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  // Bytes up to CR are rare in text: ask for those of four vectors at once, and look closer only where there is one.
  const __m128i limit = _mm_set1_epi8('\r');
  while (i + 64 <= n) {
    __m128i a = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i b = _mm_loadu_si128((const __m128i *)(p + i + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(p + i + 32));
    __m128i d = _mm_loadu_si128((const __m128i *)(p + i + 48));
    __m128i least = _mm_min_epu8(_mm_min_epu8(a, b), _mm_min_epu8(c, d));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(least, limit), least))) {
      uint64_t ends = cbytes_line_ends(a) | (uint64_t)cbytes_line_ends(b) << 16 |
                      (uint64_t)cbytes_line_ends(c) << 32 | (uint64_t)cbytes_line_ends(d) << 48;
      if (ends) return i + (size_t)__builtin_ctzll(ends);
    }
    i += 64;
  }
  while (i + 16 <= n) {
    unsigned ends = cbytes_line_ends(_mm_loadu_si128((const __m128i *)(p + i)));
    if (ends) return i + (size_t)__builtin_ctz(ends);
    i += 16;
  }
  if (n >= 16 && i < n) {
    // The last vector overlaps bytes that are known to hold no line end.
    unsigned ends = cbytes_line_ends(_mm_loadu_si128((const __m128i *)(p + n - 16)));
    return ends ? n - 16 + (size_t)__builtin_ctz(ends) : n;
  }
#endif
  while (i < n && p[i] != '\r' && p[i] != '\n') i++;
  return i;
}
