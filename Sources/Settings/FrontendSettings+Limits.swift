// The frontend's limits and deadlines: every bound of the request path that an operator can move.

import Base

extension SettingsTable {
  static let frontendLimits: [SettingDefinition] = [
    SettingDefinition(
      nil, "DYN_HTTP_BODY_LIMIT_MB", .integer(1...4096), fallback: "45", group: "Limits",
      live: true, "Largest request body, in MiB; past it 413."),
    SettingDefinition(
      nil, "DYN_HTTP_BODY_MEMORY_MB", .integer(1...1_048_576), fallback: "512", group: "Limits",
      live: true,
      "Most memory of all request bodies together, in MiB; past it reading pauses, and after 5 s comes 529."),
    SettingDefinition(
      nil, "DYN_HTTP_REQUEST_LINE_LIMIT", .integer(256...65536), fallback: "8192", group: "Limits",
      live: true, "Longest request line, in bytes; past it 414."),
    SettingDefinition(
      nil, "DYN_HTTP_HEADER_COUNT_LIMIT", .integer(8...1000), fallback: "100", group: "Limits",
      live: true, "Most header fields of a request; past it 431."),
    SettingDefinition(
      nil, "DYN_HTTP_HEAD_LIMIT", .integer(1024...1_048_576), fallback: "32768", group: "Limits",
      live: true, "Longest request head, in bytes; past it 431."),
    SettingDefinition(
      nil, "DYN_HTTP_REQUEST_BODY_LEAST_PACE", .integer(0...1_048_576), fallback: "500", group: "Limits",
      live: true, "Least pace of a request body on average, in bytes a second; below it 408. 0 asks for none."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_CONNECTION_LIMIT", .integer(1...1_048_576), unset: "16,384 a loop",
      group: "Limits",
      live: true,
      "Most client connections, shared out evenly to the loops; past it new ones are closed at once."),
    SettingDefinition(
      nil, "DYN_HTTP_REQUEST_LIMIT", .integer(1...16_777_216), unset: "16,384 a loop", group: "Limits",
      live: true,
      "Most inference requests in progress, shared out evenly to the loops; past it new ones get 529."),
    SettingDefinition(
      nil, "DYN_MEMORY_LIMIT_MB", .integer(1...1_048_576), unset: "the cgroup's limit, else none",
      group: "Limits", live: true,
      """
      Memory of the process, in MiB: from 95 % of it on new requests get 529, from 98 % on new connections are closed \
      at once; what runs goes on.
      """),
    SettingDefinition(
      nil, "DYN_HTTP2_STREAM_LIMIT", .integer(0...10_000), fallback: "100", group: "Limits",
      live: true, "Most requests at once on one HTTP/2 connection of a client; 0 offers no HTTP/2."),
    SettingDefinition(
      nil, "DYN_HTTP_OVERLOAD_STATUS_CODE", .integer(400...599), fallback: "529", group: "Limits",
      live: true, "Status of the answer when all workers are busy or a memory bound is reached."),
  ]

  static let frontendDeadlines: [SettingDefinition] = [
    deadline(
      "DYN_HTTP_REQUEST_HEAD_TIMEOUT_SECS", "10",
      "Longest time from a request's first byte to its head's end."),
    deadline("DYN_HTTP_REQUEST_BODY_TIMEOUT_SECS", "30", "Longest silence inside a request body."),
    deadline(
      "DYN_HTTP_REQUEST_BODY_GRACE_SECS", "20",
      "Time that a request body has before its pace counts (`DYN_HTTP_REQUEST_BODY_LEAST_PACE`)."),
    deadline("DYN_HTTP_WRITE_STALL_TIMEOUT_SECS", "60", "Longest time in which a client takes no byte."),
    deadline("DYN_HTTP_KEEP_ALIVE_TIMEOUT_SECS", "75", "Longest idle time of a client connection."),
    deadline("DYN_HTTP_TLS_HANDSHAKE_TIMEOUT_SECS", "10", "Longest time of a client's TLS handshake."),
    deadline(
      "DYN_HTTP_BACKEND_CONNECT_TIMEOUT_SECS", "3",
      "Longest time to connect to a worker, the TLS handshake included."),
    deadline(
      "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", nil,
      "Longest silence of a worker, before its first byte and within an answer."),
    deadline(
      "DYN_HTTP_BACKEND_IDLE_TIMEOUT_SECS", "4",
      "Longest idle time of a worker connection; keep it below the engine's own."),
    deadline(
      "DYN_HTTP_COMMIT_SILENCE_SECS", "15",
      "A stream whose worker is silent this long is answered with 200 and a comment."),
    deadline(
      "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS", "0",
      "After SIGTERM, time in which requests are still served while /ready says no."),
    deadline(
      "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", "5", "Time that open requests have to finish after that."),
    deadline(
      "DYN_TRACE_FLUSH_TIMEOUT_SECS", "5", live: false, "Time to send the last spans after the last request."),
  ]

  static func deadline(
    _ environment: String, _ fallback: String?, live: Bool = true, _ help: String
  ) -> SettingDefinition {
    SettingDefinition(
      nil, environment, .duration(unit: second), fallback: fallback, unset: "none", group: "Deadlines",
      live: live, help)
  }
}
