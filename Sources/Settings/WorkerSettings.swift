// The settings of dynamo-worker; the simulated engine's knobs bear the names of Dynamo's mocker.

import Base

extension SettingsTable {
  /// Everything that dynamo-worker can be told.
  package static let worker = SettingsTable(
    program: "dynamo-worker",
    summary: "registers an engine, traces its work and serves it to dynamo-frontend",
    subcommands: [
      Subcommand("serve", "Serve requests; the same as no subcommand."),
      Subcommand("doctor", "Print every setting and where it came from, and check what can be reached."),
      Subcommand("version", "Print the version."),
      Subcommand("help", "Print this text."),
    ],
    definitions: workerServer + etcdDiscovery + etcdLease + workerSimulation + workerDeadlines + tracing
      + signals + logging,
    foreign: workerForeign,
    passThroughHelp: "Arguments for the engine's command.")

  private static let workerServer: [SettingDefinition] = [
    SettingDefinition(
      "model", "DYN_MODEL_NAME", .string, unset: "the model path's last part, else Qwen/Qwen3-0.6B",
      placeholder: "NAME", group: "Worker", olderFlags: ["model-name", "served-model-name"],
      "Model that the worker serves."),
    SettingDefinition(
      "model-path", "DYN_MODEL_PATH", .string, unset: "none", placeholder: "DIR", group: "Worker",
      "Folder with the model's files: names the model where --model does not, and gives the simulated engine its tokenizer and chat template."
    ),
    SettingDefinition(
      "engine", "DYN_ENGINE", .choice(["sim", "openai"]), fallback: "sim", group: "Worker",
      "sim is the built-in simulated engine; openai attaches to a server that speaks OpenAI's API."),
    SettingDefinition(
      "engine-url", "DYN_ENGINE_URL", .string, unset: "none", placeholder: "URL", group: "Worker",
      "Running engine to attach to."),
    SettingDefinition(
      "engine-command", "DYN_ENGINE_COMMAND", .string, unset: "none", placeholder: "COMMAND", group: "Worker",
      "Command that starts the engine, which is then watched and restarted."),
    SettingDefinition(
      "kv-events-endpoint", "DYN_KV_EVENTS_ENDPOINT", .string, fallback: "auto", placeholder: "ADDRESS",
      group: "Worker",
      "Where the engine's cache events are published, as tcp://*:5557 (0 picks a port) or ipc://PATH; auto takes a free port of --host for the simulated engine and leaves an engine on this machine to publish its own; off publishes nothing."
    ),
    SettingDefinition(
      "kv-events-replay-endpoint", "DYN_KV_EVENTS_REPLAY_ENDPOINT", .string, fallback: "auto",
      placeholder: "ADDRESS", group: "Worker",
      "Where missed cache events can be asked for; auto takes a free port, off offers no replay."),
    SettingDefinition(
      "engine-kv-events-endpoint", "DYN_ENGINE_KV_EVENTS_ENDPOINT", .string,
      unset: "what the engine's /kv_event_sources says", placeholder: "ADDRESS", group: "Worker",
      "Where the attached engine publishes cache events, as in its own configuration."),
    SettingDefinition(
      "engine-kv-events-replay-endpoint", "DYN_ENGINE_KV_EVENTS_REPLAY_ENDPOINT", .string, unset: "none",
      placeholder: "ADDRESS", group: "Worker", "Where the attached engine replays them, beside the endpoint."),
    SettingDefinition(
      "worker-api-key-file", "DYN_WORKER_API_KEY_FILE", .string, unset: "none", placeholder: "FILE",
      group: "Worker", "File with the API key to present to the engine."),
    SettingDefinition(
      "host", "DYN_WORKER_HOST", .string, fallback: "127.0.0.1", placeholder: "ADDRESS", group: "Worker",
      "Address to listen on."),
    SettingDefinition(
      "port", "DYN_WORKER_PORT", .integer(0...65535), fallback: "0", placeholder: "PORT", group: "Worker",
      "Port to listen on; 0 picks a free one, which the log names."),
    SettingDefinition(
      "advertise-url", "DYN_WORKER_ADVERTISE_URL", .string, unset: "http:// with host and port",
      placeholder: "URL", group: "Worker", "Address under which the frontend reaches this worker."),
    SettingDefinition(
      "advertise-h2c", "DYN_WORKER_ADVERTISE_H2C", .boolean, fallback: "false", group: "Worker",
      "Register as h2c://: frontends then send many requests over few HTTP/2 connections. The port speaks both."
    ),
    SettingDefinition(
      "threads", "DYN_HTTP_THREADS", .integer(1...256), fallback: "1", group: "Worker",
      "Event loops, one thread each."),
    SettingDefinition(
      "migration-limit", "DYN_MIGRATION_LIMIT", .integer(0...64), fallback: "0", group: "Worker",
      "Times that a stream which begins here goes on at another worker when its own dies, where frontends allow fewer."
    ),
    SettingDefinition(
      "namespace", "DYN_NAMESPACE", .string, fallback: "dynamo", placeholder: "NAME", group: "Worker",
      "Namespace to register in."),
    SettingDefinition(
      "component", "DYN_COMPONENT", .string, unset: "backend, or prefill for a prefill worker",
      placeholder: "NAME", group: "Worker", "Component to register as."),
    SettingDefinition(
      "endpoint", "DYN_ENDPOINT", .string, unset: "dyn://NAMESPACE.COMPONENT.generate",
      placeholder: "DYN-URL",
      group: "Worker", "Dynamo's name of this endpoint, instead of namespace and component."),
    SettingDefinition(
      "disaggregation-mode", "DYN_DISAGGREGATION_MODE", .choice(["agg", "prefill", "decode"]),
      fallback: "agg",
      group: "Worker", "Part of the work that this worker does."),
    SettingDefinition(
      "is-prefill-worker", "DYN_IS_PREFILL_WORKER", .boolean, fallback: "false", group: "Worker",
      "The same as --disaggregation-mode prefill."),
    SettingDefinition(
      "discovery-backend", "DYN_DISCOVERY_BACKEND", .choice(["file", "etcd", "kubernetes", "mem"]),
      fallback: "file", group: "Worker", olderFlags: ["store-kv"], olderEnvironment: ["DYN_STORE_KV"],
      "Where the worker registers itself; mem registers nowhere, and for kubernetes the pod's readiness does it."
    ),
    SettingDefinition(
      nil, "DYN_FILE_KV", .string,
      unset:
        "$RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/dynamo, else dynamo_store_kv-<uid> in the temporary folder",
      placeholder: "DIR", group: "Worker", "Folder of the file discovery."),
    SettingDefinition(
      nil, "DYN_SYSTEM_HOST", .string, fallback: "0.0.0.0", placeholder: "ADDRESS", group: "Worker",
      "Address of the system server."),
    SettingDefinition(
      nil, "DYN_SYSTEM_PORT", .integer(-1...65535), fallback: "-1", placeholder: "PORT", group: "Worker",
      "Port of the system server (/health, /live, /metrics); -1 is off, 0 picks a free one."),
  ]

  private static let workerSimulation: [SettingDefinition] = [
    SettingDefinition(
      "num-gpu-blocks-override", "DYN_SIM_NUM_GPU_BLOCKS", .integer(1...100_000_000), fallback: "16384",
      placeholder: "BLOCKS", group: "Simulated engine", "Blocks in the cache."),
    SettingDefinition(
      "block-size", "DYN_SIM_BLOCK_SIZE", .integer(1...4096), fallback: "16", placeholder: "TOKENS",
      group: "Simulated engine", olderFlags: ["kv-cache-block-size"], "Tokens in a block."),
    SettingDefinition(
      "max-model-len", "DYN_SIM_MAX_MODEL_LEN", .integer(1...100_000_000), unset: "131072",
      placeholder: "TOKENS", group: "Simulated engine", "Longest prompt and answer together."),
    SettingDefinition(
      "max-num-seqs", "DYN_SIM_MAX_NUM_SEQS", .integer(1...100_000), fallback: "256",
      group: "Simulated engine",
      "Requests that run at once; more wait."),
    SettingDefinition(
      "max-num-batched-tokens", "DYN_SIM_MAX_NUM_BATCHED_TOKENS", .integer(1...100_000_000), fallback: "8192",
      placeholder: "TOKENS", group: "Simulated engine", "Tokens that one step may work on."),
    SettingDefinition(
      "enable-prefix-caching", "DYN_SIM_ENABLE_PREFIX_CACHING", .boolean, fallback: "true",
      group: "Simulated engine", "Keep the blocks of finished requests for others."),
    SettingDefinition(
      "enable-chunked-prefill", "DYN_SIM_ENABLE_CHUNKED_PREFILL", .boolean, fallback: "true",
      group: "Simulated engine", "Split long prompts over several steps."),
    SettingDefinition(
      "speedup-ratio", "DYN_SIM_SPEEDUP_RATIO", .number(0...1e9), fallback: "1.0", group: "Simulated engine",
      "Divides every simulated time; 0 takes no time at all."),
    SettingDefinition(
      "decode-speedup-ratio", "DYN_SIM_DECODE_SPEEDUP_RATIO", .number(0...1e9), fallback: "1.0",
      group: "Simulated engine", "Divides the time of decode steps once more."),
    SettingDefinition(
      "kv-transfer-bandwidth", "DYN_SIM_KV_TRANSFER_BANDWIDTH", .number(0...1e9), fallback: "64",
      placeholder: "GB/S", group: "Simulated engine",
      "How fast blocks come from a prefill worker; 0 takes no time."),
    SettingDefinition(
      "kv-bytes-per-token", "DYN_SIM_KV_BYTES_PER_TOKEN", .integer(1...1_073_741_824), fallback: "131072",
      placeholder: "BYTES", group: "Simulated engine", "Bytes of one token's cache entries on that way."),
    SettingDefinition(
      "enable-cache-reset", "DYN_SIM_ENABLE_CACHE_RESET", .boolean, fallback: "false",
      group: "Simulated engine",
      "Let POST /reset_prefix_cache empty the cache, as vLLM does in its development mode."),
    SettingDefinition(
      "startup-time", "DYN_SIM_STARTUP_TIME", .duration(unit: second), fallback: "0",
      group: "Simulated engine", "Time from start until the worker registers."),
    SettingDefinition(
      "seed", "DYN_SIM_SEED", .integer(0...Int.max), fallback: "0", group: "Simulated engine",
      "Seed of the simulated text."),
  ]

  private static let workerDeadlines: [SettingDefinition] = [
    deadline(
      "DYN_HTTP_REQUEST_HEAD_TIMEOUT_SECS", "10",
      "Longest time from a request's first byte to its head's end."),
    deadline("DYN_HTTP_REQUEST_BODY_TIMEOUT_SECS", "30", "Longest silence inside a request body."),
    deadline("DYN_HTTP_WRITE_STALL_TIMEOUT_SECS", "60", "Longest time in which the frontend takes no byte."),
    deadline("DYN_HTTP_KEEP_ALIVE_TIMEOUT_SECS", "75", "Longest idle time of a connection."),
    deadline("DYN_HTTP_BACKEND_CONNECT_TIMEOUT_SECS", "3", "Longest time to connect to the engine."),
    deadline("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", nil, "Longest silence of the engine."),
    deadline("DYN_HTTP_BACKEND_IDLE_TIMEOUT_SECS", "4", "Longest idle time of an engine connection."),
    deadline(
      "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS", "0",
      "After SIGTERM, time in which requests are still served while the record is already withdrawn."),
    deadline(
      "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", "900",
      "Time that open requests have to finish after that."),
    deadline("DYN_TRACE_FLUSH_TIMEOUT_SECS", "5", "Time to send the last spans after the last request."),
  ]
}
