// The fake worker's answers beside inference: what routers probe for, its counters, and its pace.

import Base

extension FakeWorker {
  /// Answers a request whose first line is `line`.
  func appendControlAnswer(to line: UnsafeRawBufferPointer, closes: Bool, out: inout ByteBuffer) {
    let parts = line.text.split(separator: " ")
    let target = parts.count == 3 ? parts[1] : "?"
    let path = target.prefix { $0 != "?" }
    let query = target.dropFirst(path.count + 1)
    var status: StaticString = "200 OK"
    let name = quoted(model)
    let body: String
    switch path {
    case "/health", "/health_generate", "/live", "/ready": body = "{\"status\":\"ok\"}"
    case "/v1/models":
      body = """
        {"object":"list","data":[{"id":\(name),"object":"model","created":1767225600,\
        "owned_by":"dynamo-bench","max_model_len":131072}]}
        """
    case "/get_model_info", "/model_info": body = "{\"model_path\":\(name),\"is_generation\":true}"
    case "/get_server_info", "/server_info":
      body = "{\"model_path\":\(name),\"served_model_name\":\(name),\"dp_size\":1,\"tp_size\":1}"
    case "/stats": body = stats
    case "/reset":
      for port in ports { port.reset() }
      body = stats
    case "/pace":
      if let changed = Self.pace(pace, changedBy: String(query)) {
        pace = changed
        body = stats
      } else {
        status = "400 Bad Request"
        body = """
          {"error":{"message":"use ttft_ms, itl_ms, tokens, step","type":"invalid_request_error"}}
          """
      }
    default:
      status = "404 Not Found"
      body = "{\"error\":{\"message\":\"not found\",\"type\":\"invalid_request_error\"}}"
    }
    Array(body.utf8).withUnsafeBytes {
      AnswerTemplates.appendJSON($0, status: status, closes: closes, to: &out)
    }
  }

  /// `pace` with the changes of a query such as `ttft_ms=20&itl_ms=10`; nil when it names something else.
  static func pace(_ pace: Pace, changedBy query: String) -> Pace? {
    var result = pace
    for pair in query.split(separator: "&") {
      let sides = pair.split(separator: "=", maxSplits: 1)
      guard sides.count == 2, let value = Int(sides[1]), value >= 0 else { return nil }
      switch sides[0] {
      case "ttft_ms": result.firstTokenDelay = UInt64(value) * millisecond
      case "itl_ms": result.tokenGap = UInt64(value) * millisecond
      case "tokens": result.tokens = max(1, value)
      case "step": result.step = value != 0
      default: return nil
      }
    }
    return result
  }

  /// All counters as JSON.
  var stats: String {
    let lines = ports.map { port in
      """
      {"port":\(port.port),"requests":\(port.requests),"open":\(port.open),"tokens":\(port.tokens),\
      "cancelled":\(port.cancelled),"bad_requests":\(port.badRequests),"groups":\(port.groups.count)}
      """
    }
    let affinity = groupAffinity.map { fixed($0, 3) } ?? "null"
    return "{\"ports\":[\(lines.joined(separator: ","))],\"group_affinity\":\(affinity)}"
  }

  /// The share of grouped requests that went to the worker where most of their group went: 1 when each group has
  /// one worker. Nil without grouped requests.
  var groupAffinity: Double? {
    var best: [UInt64: Int] = [:]
    var total = 0
    for port in ports {
      for (group, count) in port.groups {
        best[group] = max(best[group] ?? 0, count)
        total += count
      }
    }
    return total == 0 ? nil : Double(best.values.reduce(0, +)) / Double(total)
  }
}
