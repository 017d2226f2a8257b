// Runs of letters and of ASCII in text, for the tokenizer.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// Length of the run of ASCII letters that [p, p + n) starts with. Words are short: one vector step finds most ends
/// without a branch per byte.
static inline size_t cbytes_letter_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  while (i + 16 <= n) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i place = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i letters = _mm_cmpeq_epi8(_mm_min_epu8(place, _mm_set1_epi8(25)), place);
    uint32_t others = (uint32_t)_mm_movemask_epi8(letters) ^ 0xffffu;
    if (others) return i + (uint32_t)__builtin_ctz(others);
    i += 16;
  }
#endif
  while (i < n && (uint8_t)((p[i] | 0x20) - 'a') < 26) i++;
  return i;
}

/// Offset of the first `a` or `b` in [p, p + n); n if there is none.
static inline size_t cbytes_find_either(const uint8_t *p, size_t n, uint8_t a, uint8_t b) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i first = _mm_set1_epi8((char)a), second = _mm_set1_epi8((char)b);
  for (; i + 16 <= n; i += 16) {
    __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
    __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(v, first), _mm_cmpeq_epi8(v, second));
    uint32_t mask = (uint32_t)_mm_movemask_epi8(hits);
    if (mask) return i + (uint32_t)__builtin_ctz(mask);
  }
#endif
  while (i < n && p[i] != a && p[i] != b) i++;
  return i;
}

/// Length of the run of bytes below 0x80 that [p, p + n) starts with.
static inline size_t cbytes_ascii_run(const uint8_t *p, size_t n) {
  size_t i = 0;
#if defined(__SSE2__)
  while (i + 16 <= n) {
    uint32_t high = (uint32_t)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(p + i)));
    if (high) return i + (uint32_t)__builtin_ctz(high);
    i += 16;
  }
#endif
  while (i < n && p[i] < 0x80) i++;
  return i;
}
