// Flags of Dynamo and of engines that existing command lines carry and that have no effect of ours.

extension SettingsTable {
  /// Dynamo 1.6 and older frontend flags without an effect.
  static let frontendForeign: [ForeignFlag] =
    [
      ForeignFlag("interactive", short: "i", "DYN_INTERACTIVE", takesValue: false),
      ForeignFlag("serve-indexer", "DYN_SERVE_INDEXER", takesValue: false),
      ForeignFlag("tcp-tls-cert-path", "DYN_TCP_TLS_CERT_PATH"),
      ForeignFlag("tcp-tls-key-path", "DYN_TCP_TLS_KEY_PATH"),
      ForeignFlag("tcp-tls-ca-cert-path", "DYN_TCP_TLS_CA_CERT_PATH"),
      ForeignFlag("tcp-tls-client-cert-path", "DYN_TCP_TLS_CLIENT_CERT_PATH"),
      ForeignFlag("tcp-tls-client-key-path", "DYN_TCP_TLS_CLIENT_KEY_PATH"),
      ForeignFlag("tcp-tls-client-ca-cert-path", "DYN_TCP_TLS_CLIENT_CA_CERT_PATH"),
      ForeignFlag("nats-tls-ca-cert-path", "NATS_TLS_CA_CERT_PATH"),
      ForeignFlag("nats-tls-insecure", "NATS_TLS_INSECURE", takesValue: false),
      ForeignFlag("nats-tls-client-cert-path", "NATS_TLS_CLIENT_CERT_PATH"),
      ForeignFlag("nats-tls-client-key-path", "NATS_TLS_CLIENT_KEY_PATH"),
      ForeignFlag("active-prefill-tokens-threshold-frac", "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC"),
      ForeignFlag("busy-threshold"),
      ForeignFlag("enforce-disagg", "DYN_ENFORCE_DISAGG", takesValue: false),
      ForeignFlag("admission-control"),
      ForeignFlag("kserve-grpc-server", "DYN_KSERVE_GRPC_SERVER", takesValue: false),
      ForeignFlag("grpc-metrics-port", "DYN_GRPC_METRICS_PORT"),
      ForeignFlag("dump-config-to", "DYN_DUMP_CONFIG_TO"),
      ForeignFlag("frontend-route-extension", "DYN_FRONTEND_ROUTE_EXTENSIONS"),
      ForeignFlag("enable-streaming-tool-dispatch", "DYN_ENABLE_STREAMING_TOOL_DISPATCH", takesValue: false),
      ForeignFlag(
        "enable-streaming-reasoning-dispatch", "DYN_ENABLE_STREAMING_REASONING_DISPATCH", takesValue: false),
      ForeignFlag("reasoning-field-name", "DYN_REASONING_FIELD_NAME"),
      ForeignFlag(
        "exclude-tools-when-tool-choice-none", "DYN_EXCLUDE_TOOLS_WHEN_TOOL_CHOICE_NONE", takesValue: false),
      ForeignFlag("dyn-chat-processor", "DYN_CHAT_PROCESSOR"),
      ForeignFlag("dyn-debug-perf", "DYN_DEBUG_PERF", takesValue: false),
      ForeignFlag("dyn-preprocess-workers", "DYN_PREPROCESS_WORKERS"),
      ForeignFlag("tokenizer", "DYN_TOKENIZER"),
      ForeignFlag("tokenizer-fallback", "DYN_TOKENIZER_FALLBACK", takesValue: false),
      ForeignFlag("trust-remote-code", "DYN_TRUST_REMOTE_CODE", takesValue: false),
    ] + planes + routerForeign + seedRouterForeign

  private static let routerForeign: [ForeignFlag] = [
    ForeignFlag("load-aware", "DYN_ROUTER_LOAD_AWARE", takesValue: false),
    ForeignFlag("router-tracking-hash", "DYN_ROUTER_TRACKING_HASH"),
    ForeignFlag("router-tracking-key-file", "DYN_ROUTER_TRACKING_KEY_FILE"),
    ForeignFlag("router-tracking-key-id", "DYN_ROUTER_TRACKING_KEY_ID"),
    ForeignFlag("router-prefill-load-model", "DYN_ROUTER_PREFILL_LOAD_MODEL"),
    ForeignFlag("router-policy-config", "DYN_ROUTER_POLICY_CONFIG"),
    ForeignFlag("router-prefill-policy", "DYN_ROUTER_PREFILL_POLICY"),
    ForeignFlag("router-decode-policy", "DYN_ROUTER_DECODE_POLICY"),
    ForeignFlag("router-event-threads", "DYN_ROUTER_EVENT_THREADS"),
    ForeignFlag("use-remote-indexer", "DYN_USE_REMOTE_INDEXER", takesValue: false),
    ForeignFlag("enable-session-prefix-index", "DYN_ENABLE_SESSION_PREFIX_INDEX", takesValue: false),
    ForeignFlag("shared-cache-multiplier", "DYN_SHARED_CACHE_MULTIPLIER"),
    ForeignFlag("shared-cache-type", "DYN_SHARED_CACHE_TYPE"),
  ]

  /// Flags of the releases up to 0.9 that later ones dropped.
  private static let seedRouterForeign: [ForeignFlag] = [
    ForeignFlag("router-max-tree-size", "DYN_ROUTER_MAX_TREE_SIZE"),
    ForeignFlag("router-prune-target-ratio", "DYN_ROUTER_PRUNE_TARGET_RATIO"),
    ForeignFlag("router-snapshot-threshold", "DYN_ROUTER_SNAPSHOT_THRESHOLD"),
    ForeignFlag("router-reset-states", "DYN_ROUTER_RESET_STATES", takesValue: false),
    ForeignFlag("custom-backend-metrics-endpoint", "CUSTOM_BACKEND_METRICS_ENDPOINT"),
    ForeignFlag("custom-backend-metrics-polling-interval", "CUSTOM_BACKEND_METRICS_POLLING_INTERVAL"),
  ]

  private static let planes: [ForeignFlag] = [
    ForeignFlag("request-plane", "DYN_REQUEST_PLANE"),
    ForeignFlag("response-plane", "DYN_RESPONSE_PLANE"),
    ForeignFlag("event-plane", "DYN_EVENT_PLANE"),
  ]

  /// Flags of Dynamo's workers and mocker, and the engine flags of common launch scripts.
  static let workerForeign: [ForeignFlag] =
    planes + [
      ForeignFlag("is-decode-worker", "DYN_IS_DECODE_WORKER", takesValue: false),
      ForeignFlag("engine-request-limit", "DYN_ENGINE_REQUEST_LIMIT"),
      ForeignFlag("dyn-tool-call-parser", "DYN_TOOL_CALL_PARSER"),
      ForeignFlag("dyn-reasoning-parser", "DYN_REASONING_PARSER"),
      ForeignFlag("dyn-default-thinking-mode"),
      ForeignFlag("custom-jinja-template", "DYN_CUSTOM_JINJA_TEMPLATE"),
      ForeignFlag("engine-type"),
      ForeignFlag("num-workers"),
      ForeignFlag("stagger-delay"),
      ForeignFlag("preemption-mode"),
      ForeignFlag("bootstrap-ports"),
      ForeignFlag("kv-transfer-timing-mode"),
      ForeignFlag("num-host-blocks"),
      ForeignFlag("zmq-kv-events-ports"),
      ForeignFlag("zmq-replay-ports"),
      ForeignFlag("reasoning"),
      ForeignFlag("planner-profile-data"),
      ForeignFlag("extra-engine-args"),
      engine("enforce-eager", takesValue: false),
      engine("trust-remote-code", takesValue: false),
      engine("disable-log-requests", takesValue: false),
      engine("enable-expert-parallel", takesValue: false),
      engine("enable-chunked-context", takesValue: false),
      engine("async-scheduling", takesValue: false),
      engine("skip-tokenizer-init", takesValue: false),
      engine("gpu-memory-utilization"),
      engine("mem-fraction-static"),
      engine("tensor-parallel-size"),
      engine("pipeline-parallel-size"),
      engine("data-parallel-size"),
      engine("tp"),
      engine("dtype"),
      engine("quantization"),
      engine("kv-cache-dtype"),
      engine("kv-transfer-config"),
      engine("kv-events-config"),
      engine("connector"),
      engine("load-format"),
      engine("tokenizer"),
      engine("page-size"),
    ]

  private static func engine(_ flag: String, takesValue: Bool = true) -> ForeignFlag {
    ForeignFlag(flag, takesValue: takesValue, answer: .pass)
  }
}
