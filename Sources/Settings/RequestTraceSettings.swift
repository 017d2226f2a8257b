// Settings of request-trace records, under Dynamo's names.

import Base

extension SettingsTable {
  static let requestTrace: [SettingDefinition] = [
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE", .boolean, fallback: "false", group: "Request trace", lenient: true,
      "Write a record of each finished request, with lengths, hashes and times, and never its text."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_SINKS", .string, fallback: "file", placeholder: "file,stderr",
      group: "Request trace", lenient: true, "Where records go; Dynamo's nats, otel and s3 are not there."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_PATH", .string, fallback: "/tmp/dynamo-request-trace",
      placeholder: "PREFIX", group: "Request trace",
      "What the files' names begin with; a number and .jsonl.gz follow."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_FORMAT", .choice(["jsonl_gz", "jsonl"]), fallback: "jsonl_gz",
      group: "Request trace", lenient: true, "Whether files are compressed."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_ROLL_BYTES", .integer(1...1_099_511_627_776), fallback: "268435456",
      group: "Request trace", lenient: true, "Bytes of records, uncompressed, after which a new file begins."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_ROLL_LINES", .integer(1...1_099_511_627_776), unset: "any number",
      group: "Request trace", lenient: true, "Records after which a new file begins."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_COUNT", .integer(1...100_000), fallback: "16", group: "Request trace",
      lenient: true, "Files that are kept; past it the oldest is removed."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_BUFFER_BYTES", .integer(65_536...1_073_741_824), fallback: "1048576",
      group: "Request trace", lenient: true,
      "Bytes of records that may wait for the disk; past it records are dropped and counted."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_FILE_FLUSH_INTERVAL_MS", .integer(1...3_600_000), fallback: "1000",
      group: "Request trace", lenient: true, "Longest time that a record waits before it is written."),
    SettingDefinition(
      nil, "DYN_REQUEST_TRACE_SAMPLE_RATIO", .number(0...1), fallback: "1", group: "Request trace",
      lenient: true, "Share of requests that have a record."),
  ]
}
