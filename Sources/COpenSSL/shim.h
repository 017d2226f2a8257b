// Imports OpenSSL 3 (Debian 12 has 3.0) into Swift, with functions and constants for what its headers have as macros.
#pragma once
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static const uint64_t copenssl_op_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
static const uint64_t copenssl_op_no_compression = SSL_OP_NO_COMPRESSION;
static const uint64_t copenssl_op_server_preference = SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t copenssl_op_prioritize_chacha = SSL_OP_PRIORITIZE_CHACHA;

static inline int copenssl_set_min_proto_version(SSL_CTX *context, int version) {
  return (int)SSL_CTX_set_min_proto_version(context, version);
}

static inline int copenssl_set_max_proto_version(SSL_CTX *context, int version) {
  return (int)SSL_CTX_set_max_proto_version(context, version);
}

static inline void copenssl_set_mode(SSL_CTX *context, long mode) { (void)SSL_CTX_set_mode(context, mode); }

static inline void copenssl_set_session_cache_mode(SSL_CTX *context, long mode) {
  (void)SSL_CTX_set_session_cache_mode(context, mode);
}

// Only reads the name: the macro's cast drops const, nothing else.
static inline int copenssl_set_server_name(SSL *connection, const char *name) {
  return (int)SSL_set_tlsext_host_name(connection, name);
}

static inline int copenssl_is_system_error(unsigned long code) { return ERR_SYSTEM_ERROR(code) ? 1 : 0; }
static inline int copenssl_library(unsigned long code) { return ERR_GET_LIB(code); }
static inline int copenssl_reason(unsigned long code) { return ERR_GET_REASON(code); }
