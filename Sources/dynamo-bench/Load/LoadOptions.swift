// What one run of the load generator does.

import Base
import EventLoop

/// A server to send requests to.
struct Target: Equatable {
  var host: String
  var port: UInt16

  /// Reads `http://host:port`, with or without a slash behind it; nil for anything else.
  static func parse(_ url: String) -> Target? {
    var rest = url[...]
    guard rest.hasPrefix("http://") else { return nil }
    rest = rest.dropFirst("http://".count)
    if rest.hasSuffix("/") { rest = rest.dropLast() }
    if rest.isEmpty || rest.contains("/") { return nil }
    // The colons of a bare IPv6 address are inside of its brackets.
    let colon = rest.hasSuffix("]") ? nil : rest.lastIndex(of: ":")
    var host = colon.map { rest[..<$0] } ?? rest
    guard let port = colon.map({ UInt16(rest[rest.index(after: $0)...]) }) ?? 80, port > 0 else { return nil }
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return host.isEmpty ? nil : Target(host: String(host), port: port)
  }

  /// As it stands in a `host` header.
  var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// How closely answers are checked.
enum CheckMode: String, CaseIterable {
  /// Tokens are the fake worker's numbers: none may be lost, doubled or out of order.
  case numbered
  /// As many tokens as asked for, by usage where there is one, else by chunks with content.
  case count
  /// Status, framing, `[DONE]`, a finish reason, JSON's outline.
  case shape
}

/// Parameters of a run.
struct LoadOptions {
  var targets: [Target]
  var workload: Workload
  var model = "bench"
  /// Requests a second, sent whether or not earlier ones were answered; nil waits for answers (closed loop).
  var rate: Double?
  /// Requests to send; nil runs for `duration`.
  var requests: Int?
  var duration: Nanoseconds = 4 * second
  /// Requests sent before the measured ones, in the same way.
  var warmUpRequests = 0
  /// Over what time the first requests are spread, so that streams do not run in step.
  var ramp: Nanoseconds = 0
  var timeout: Nanoseconds = 60 * second
  var seed: UInt64 = 1
  var includeUsage = false
  var requestIDs = false
  var keepAlive = true
  var check = CheckMode.numbered
  /// Root of the process tree whose cost is measured.
  var process: Int32?
  /// Streams to hold open for a look at the server's memory, instead of a load.
  var openStreams: Int?
  var hold: Nanoseconds = 2 * second
}
