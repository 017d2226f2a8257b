// Imports zlib into Swift. The initialisers are macros, which Swift cannot call.
#pragma once
#include <zlib.h>

// 15 bits of window; 16 more ask for gzip's header and trailer (RFC 1952) instead of zlib's.
static inline int czlib_deflate_init(z_stream *stream, int level) {
  return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}

static inline int czlib_inflate_init(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
