// The figures of `dynamo-bench spans` as text and as JSON.

/// What was measured.
struct SpansReport {
  let cost: SpanCost
  var export: SpanExport?

  var text: String {
    var text =
      "a span from start to queue: \(readable(cost.nanosecondsEach)) ns of CPU"
      + (cost.instructionsEach.map { ", \(readable($0)) instructions" }
        ?? ", instructions are not counted here")
      + ", \(readable(cost.bytesEach)) bytes (\(grouped(cost.spans)) spans)\n"
    if let export {
      text +=
        "export: \(readable(export.spansPerSecond)) spans/s; \(grouped(export.sent)) of \(grouped(export.made)) sent, "
        + "\(grouped(export.dropped)) dropped, in \(fixed(Double(export.elapsed) / 1e9, 2)) s with "
        + "\(fixed(Double(export.processor) / 1e9, 2)) s of CPU\n"
    }
    return text
  }

  var json: String {
    var members = [
      "\"spans\":\(cost.spans)", "\"ns_per_span\":\(fixed(cost.nanosecondsEach, 1))",
      "\"instructions_per_span\":\(cost.instructionsEach.map { fixed($0, 1) } ?? "null")",
      "\"bytes_per_span\":\(fixed(cost.bytesEach, 1))",
    ]
    if let export {
      members += [
        "\"export_spans_per_second\":\(fixed(export.spansPerSecond, 1))", "\"export_made\":\(export.made)",
        "\"export_sent\":\(export.sent)", "\"export_dropped\":\(export.dropped)",
        "\"export_seconds\":\(fixed(Double(export.elapsed) / 1e9, 3))",
        "\"export_cpu_seconds\":\(fixed(Double(export.processor) / 1e9, 3))",
      ]
    }
    return "{\(members.joined(separator: ","))}"
  }
}
