// The settings of dynamo-frontend, under Dynamo's names wherever Dynamo has them.

import Base

extension SettingsTable {
  /// Everything that dynamo-frontend can be told.
  package static let frontend = SettingsTable(
    program: "dynamo-frontend",
    summary: "an OpenAI-compatible frontend that knows which worker caches what",
    subcommands: [
      Subcommand("serve", "Serve requests; the same as no subcommand."),
      Subcommand("doctor", "Print every setting and where it came from, and check what can be reached."),
      Subcommand("hash-key", "Read an API key from standard input and print its hash, for --api-key-file."),
      Subcommand("version", "Print the version."),
      Subcommand("help", "Print this text."),
    ],
    definitions: frontendServer + frontendListeners + frontendTLS + frontendTenants + frontendWorkers
      + frontendRouter
      + frontendQueue + frontendPeers
      + etcdDiscovery + kubernetesDiscovery
      + frontendLimits
      + frontendDeadlines
      + frontendHealth
      + frontendMetrics + embeddedTraceStore + tracing + signals + requestTrace + logging,
    foreign: frontendForeign, reloads: true)

  private static let frontendServer: [SettingDefinition] = [
    SettingDefinition(
      "http-host", "DYN_HTTP_HOST", .string, fallback: "0.0.0.0", placeholder: "ADDRESS", group: "Server",
      "Address to listen on."),
    SettingDefinition(
      "http-port", "DYN_HTTP_PORT", .integer(0...65535), fallback: "8000", placeholder: "PORT",
      group: "Server",
      "Port to listen on; 0 picks a free one, which the log names."),
    SettingDefinition(
      "threads", "DYN_HTTP_THREADS", .integer(1...256),
      unset: "the lesser of CPU affinity and cgroup quota, rounded up", group: "Server",
      "Event loops, one thread each."),
    SettingDefinition(
      "admin-listen", "DYN_ADMIN_LISTEN", .string, unset: "off", placeholder: "unix:PATH|HOST:PORT",
      group: "Server",
      """
      Unix socket (mode 0600) or loopback port for requests that change state: /admin/…, beside health, metrics and \
      /v1/router/state. Without it there are none.
      """),
    SettingDefinition(
      "admin-token-file", "DYN_ADMIN_TOKEN_FILE", .string, unset: "none", placeholder: "FILE",
      group: "Server",
      "File with the token (authorization: Bearer) of the admin listener; a port needs one."),
    SettingDefinition(
      "metrics-listen", "DYN_METRICS_LISTEN", .string, unset: "on the port of callers",
      placeholder: "unix:PATH|HOST:PORT", group: "Server",
      "Serve /metrics, /health, /live, /ready and /version here, and /metrics no more on the port of callers."
    ),
    SettingDefinition(
      nil, "DYN_DISABLE_FRONTEND_ADMIN_API", .boolean, fallback: "false", group: "Server", live: true,
      "Answer 404 to /v1/router/state and /v1/router/explain, which show the router's inside."),
    SettingDefinition(
      "enable-anthropic-api", "DYN_ENABLE_ANTHROPIC_API", .boolean, fallback: "false", group: "Server",
      live: true,
      "Serve Anthropic's /v1/messages and /v1/messages/count_tokens: passed on to workers that serve them, translated for others."
    ),
    SettingDefinition(
      "strip-anthropic-preamble", "DYN_STRIP_ANTHROPIC_PREAMBLE", .boolean, fallback: "true", group: "Server",
      live: true,
      "Leave out of translated prompts the system block by which Claude Code names its version, which hides equal prefixes."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_LISTEN_BACKLOG", .integer(1...65535), fallback: "4096", group: "Server",
      "Connections that may wait to be accepted."),
    SettingDefinition(
      nil, "DYN_HTTP_WAKEUP_INTERVAL_US", .integer(0...10_000), fallback: "250", group: "Server",
      """
      Least time between two wake-ups of a busy event loop, in microseconds: several tokens are then relayed at once; \
      up to twice that while fewer than eight events come in it. A loop with fewer than two events in that time, or \
      without open streams, wakes for each; 0 always does.
      """),
    SettingDefinition(
      nil, "DYN_FRONTEND_FD_LIMIT_TARGET", .integer(64...1_048_576), fallback: "65536", group: "Server",
      "Accepted for Dynamo's scripts; the limit of open files is always raised to the hard one."),
    SettingDefinition(
      nil, "DYN_ERROR_FORMAT", .choice(["openai", "dynamo"]), fallback: "openai", group: "Server",
      live: true, "Shape of error bodies that the frontend makes: OpenAI's envelope or Dynamo's flat object."),
    SettingDefinition(
      nil, "DYN_HTTP_WORKER_ID_HEADER", .boolean, fallback: "true", group: "Server",
      live: true, "Name the chosen worker in the response header x-dynamo-worker-id."),
    SettingDefinition(
      nil, "DYN_PASS_BODY_VERBATIM", .boolean, fallback: "false", group: "Server",
      live: true, "Never add stream_options.include_usage; token counts of streams then come from chunks."),
  ]

  private static let frontendTLS: [SettingDefinition] = [
    SettingDefinition(
      "tls-cert-path", "DYN_TLS_CERT_PATH", .string, unset: "plain HTTP", placeholder: "FILE", group: "TLS",
      "Serve HTTPS with this certificate chain (PEM, the leaf first). The file is read again on SIGHUP."),
    SettingDefinition(
      "tls-key-path", "DYN_TLS_KEY_PATH", .string, unset: "none", placeholder: "FILE", group: "TLS",
      "Private key of the certificate (PEM, without a passphrase). The file is read again on SIGHUP."),
    SettingDefinition(
      "tls-client-ca-cert-path", "DYN_TLS_CLIENT_CA_CERT_PATH", .string,
      unset: "clients need no certificate",
      placeholder: "FILE", group: "TLS",
      "Serve only clients with a certificate of these authorities (PEM). The file is read again on SIGHUP."),
    SettingDefinition(
      nil, "DYN_WORKER_TLS_CA_PATH", .string, unset: "the machine's authorities", placeholder: "FILE",
      group: "TLS", "Authorities (PEM) that certificates of https:// workers must come from, and no others."),
    SettingDefinition(
      nil, "DYN_WORKER_TLS_CERT_PATH", .string, unset: "none", placeholder: "FILE", group: "TLS",
      "Certificate chain (PEM) shown to https:// workers that ask for one."),
    SettingDefinition(
      nil, "DYN_WORKER_TLS_KEY_PATH", .string, unset: "none", placeholder: "FILE", group: "TLS",
      "Private key of that certificate (PEM)."),
  ]

  private static let frontendWorkers: [SettingDefinition] = [
    SettingDefinition(
      "worker", "DYN_WORKERS", .list, unset: "none", placeholder: "URL", group: "Workers",
      live: true,
      "Static OpenAI-compatible worker: http[s]://host:port, h2c://host:port for HTTP/2, or with dns+ before it for one an address."
    ),
    SettingDefinition(
      "prefill-worker", "DYN_PREFILL_WORKERS", .list, unset: "none", placeholder: "URL", group: "Workers",
      "Static worker that only prefills; its prompts are answered by the model's other workers."),
    SettingDefinition(
      "discovery-backend", "DYN_DISCOVERY_BACKEND", .choice(["file", "etcd", "kubernetes", "mem"]),
      fallback: "file", group: "Workers", olderFlags: ["store-kv"], olderEnvironment: ["DYN_STORE_KV"],
      "Where workers that register themselves are found; kubernetes takes the endpoints of services."),
    SettingDefinition(
      nil, "DYN_FILE_KV", .string,
      unset:
        "$RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/dynamo, else dynamo_store_kv-<uid> in the temporary folder",
      placeholder: "DIR", group: "Workers", "Folder of the file discovery."),
    SettingDefinition(
      "model-name", "DYN_MODEL_NAME", .string, unset: "as workers report", placeholder: "NAME",
      group: "Workers", "Only model to serve."),
    SettingDefinition(
      "model-path", "DYN_MODEL_PATH", .string, unset: "none", placeholder: "DIR", group: "Workers",
      "Folder with the model's tokenizer and chat template: prompts are then routed by tokens, else by bytes."
    ),
    SettingDefinition(
      "kv-cache-block-size", "DYN_KV_CACHE_BLOCK_SIZE", .integer(1...65536),
      unset: "as workers report, else 16",
      placeholder: "TOKENS", group: "Workers", "Tokens in one block of the workers' KV caches."),
    SettingDefinition(
      "namespace", "DYN_NAMESPACE", .string, unset: "all", placeholder: "NAME", group: "Workers",
      "Only workers registered in this namespace."),
    SettingDefinition(
      "namespace-prefix", "DYN_NAMESPACE_PREFIX", .string, unset: "all", placeholder: "TEXT",
      group: "Workers",
      "Only workers whose namespace begins with this."),
    SettingDefinition(
      "worker-api-key-file", "DYN_WORKER_API_KEY_FILE", .string, unset: "none", placeholder: "FILE",
      group: "Workers", "File with the API key to present to workers."),
    SettingDefinition(
      "simulate", "DYN_SIMULATE", .integer(0...64), fallback: "0", group: "Workers",
      "Simulated workers to run inside this process, for a first try."),
  ]

  private static let frontendRouter: [SettingDefinition] = [
    SettingDefinition(
      "router-mode", "DYN_ROUTER_MODE",
      .choice(["kv", "round-robin", "random", "power-of-two", "least-loaded", "direct"]), fallback: "kv",
      placeholder: "MODE", group: "Router",
      "How a worker is chosen: kv, round-robin, random, power-of-two, least-loaded or direct."),
    SettingDefinition(
      "router-min-initial-workers", "DYN_ROUTER_MIN_INITIAL_WORKERS", .integer(0...100_000), fallback: "0",
      group: "Router", "Workers that must be ready before the frontend first reports ready."),
    SettingDefinition(
      "router-kv-overlap-score-credit", "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT", weight, fallback: "1.0",
      group: "Router", live: true, "Prefill blocks credited for each block that the worker caches."),
    SettingDefinition(
      "router-kv-overlap-score-credit-decay", "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY", weight,
      fallback: "0.0", group: "Router",
      live: true, "How fast the credit shrinks on a worker with more prefill work than the least busy one."),
    SettingDefinition(
      "router-prefill-load-scale", "DYN_ROUTER_PREFILL_LOAD_SCALE", weight, fallback: "1.0", group: "Router",
      olderFlags: ["router-kv-overlap-score-weight", "kv-overlap-score-weight"],
      olderEnvironment: [
        "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT", "DYN_OVERLAP_SCORE_WEIGHT", "DYN_KV_OVERLAP_SCORE_WEIGHT",
      ],
      live: true, "Weight of prefill work against decode work in the cost."),
    SettingDefinition(
      "router-decode-active-request-weight", "DYN_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT", weight,
      fallback: "0.0", group: "Router", live: true,
      "Blocks added to the cost for each request in flight on the worker."),
    SettingDefinition(
      "router-temperature", "DYN_ROUTER_TEMPERATURE", weight, fallback: "0.0", group: "Router",
      live: true, "0 takes the lowest cost; above it workers are drawn by softmax over the costs."),
    SettingDefinition(
      "router-hot-prefix-spread", "DYN_ROUTER_HOT_PREFIX_SPREAD", .boolean, fallback: "true", group: "Router",
      live: true,
      "Add to the cost of a worker whose share of a burst with one prefix is far above the average."),
    SettingDefinition(
      "router-eviction-weight", "DYN_ROUTER_EVICTION_WEIGHT", weight, fallback: "4.0", group: "Router",
      live: true, "Cost of each cached block that a worker must evict for a request; 0 is Dynamo's choice."),
    SettingDefinition(
      "router-track-active-blocks", "DYN_ROUTER_TRACK_ACTIVE_BLOCKS", .boolean, fallback: "true",
      group: "Router", olderFlags: ["track-active-blocks"],
      "Count the blocks of requests in flight as load."),
    SettingDefinition(
      "router-track-output-blocks", "DYN_ROUTER_TRACK_OUTPUT_BLOCKS", .boolean, fallback: "false",
      group: "Router", olderFlags: ["track-output-blocks"],
      "Count the blocks that streams in flight have filled with output as load."),
    SettingDefinition(
      "router-track-prefill-tokens", "DYN_ROUTER_TRACK_PREFILL_TOKENS", .boolean, fallback: "true",
      group: "Router", "Count the prompt tokens of requests before their first token as load."),
    SettingDefinition(
      "router-assume-kv-reuse", "DYN_ROUTER_ASSUME_KV_REUSE", .boolean, fallback: "true", group: "Router",
      "Count a block that several requests of a worker share once."),
    SettingDefinition(
      "router-approximate-cache-policy", "DYN_ROUTER_APPROXIMATE_CACHE_POLICY", .choice(["ttl", "lru"]),
      fallback: "ttl", group: "Router",
      "When a predicted block is forgotten: after a time, or when the worker's cache must be full."),
    SettingDefinition(
      "router-kv-events", "DYN_ROUTER_USE_KV_EVENTS", .boolean, fallback: "true", group: "Router",
      olderFlags: ["kv-events"], olderEnvironment: ["DYN_KV_EVENTS"],
      "Follow the cache events of engines that publish them (GET /kv_event_sources; needs libzmq)."),
    SettingDefinition(
      "follow-foreign-kv-events", "DYN_FOLLOW_FOREIGN_KV_EVENTS", .boolean, fallback: "false",
      group: "Router",
      "Follow cache events at any address that a worker names: on other hosts, ipc:// paths, and ports that this process is to listen on. Without it only tcp:// on the worker's own host is connected to."
    ),
    SettingDefinition(
      "router-predicted-ttl-secs", "DYN_ROUTER_PREDICTED_TTL_SECS", .duration(unit: second), group: "Router",
      "Count what was sent to a worker as cached for this long although its events do not say so yet."),
    SettingDefinition(
      "router-host-cache-hit-weight", "DYN_ROUTER_HOST_CACHE_HIT_WEIGHT", weight, fallback: "0.75",
      group: "Router", live: true, "Credit for a block that the worker holds in host memory."),
    SettingDefinition(
      "router-disk-cache-hit-weight", "DYN_ROUTER_DISK_CACHE_HIT_WEIGHT", weight, fallback: "0.25",
      group: "Router", live: true, "Credit for a block that the worker holds on disk."),
    SettingDefinition(
      "router-ttl-secs", "DYN_ROUTER_TTL_SECS", .duration(unit: second), fallback: "120", group: "Router",
      olderFlags: ["router-ttl"], olderEnvironment: ["DYN_ROUTER_TTL"],
      "Life of a predicted block under the ttl policy."),
    SettingDefinition(
      nil, "DYN_ROUTER_ACTIVE_REQUEST_EXPIRY_SECS", .duration(unit: second), fallback: "300", group: "Router",
      "After this long without an end a request no longer counts as load."),
    SettingDefinition(
      nil, "DYN_ROUTER_INDEX_LIMIT_MB", .integer(1...65536), fallback: "16", group: "Router",
      "Most memory of one model's prefix index, in MiB; past it the oldest blocks are forgotten."),
    SettingDefinition(
      "active-decode-blocks-threshold", "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD", .number(0...1), unset: "off",
      group: "Router", live: true, "Share of a worker's blocks in use from which it counts as busy."),
    SettingDefinition(
      "active-prefill-tokens-threshold", "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD", .integer(0...Int.max),
      unset: "off", placeholder: "TOKENS", group: "Router",
      live: true, "Prompt tokens waiting on a worker from which it counts as busy."),
  ]

  /// A factor of the cost formula.
  private static let weight = SettingKind.number(0...Double.greatestFiniteMagnitude)

  private static let frontendMetrics: [SettingDefinition] = [
    SettingDefinition(
      "metrics-prefix", "DYN_METRICS_PREFIX", .string, fallback: "dynamo_frontend", placeholder: "NAME",
      group: "Metrics", "First part of the names of the frontend's metrics.")
  ]
}
