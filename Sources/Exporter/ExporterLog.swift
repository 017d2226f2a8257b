// The exporter's log lines: constant messages, bounded in number whatever the receiver does.

import Base
import Logging

/// Writes one line when an outage begins, one when it ends, and at most one a minute of each other kind.
struct ExporterLog {
  private let logger: Logger
  /// What is sent, as lines call it.
  private let noun: String
  private var outageSince: Nanoseconds?
  private var droppedBefore = 0
  private var queueFullReported = 0
  private var refusals = LineLimiter(interval: 60 * second)
  private var remarks = LineLimiter(interval: 60 * second)
  private var overflows = LineLimiter(interval: 60 * second)
  private var spoolFailures = LineLimiter(interval: 60 * second)

  init(logger: Logger, endpoint: String, noun: String = ExportSignal.traces.noun) {
    self.noun = noun
    var logger = logger
    logger[metadataKey: "endpoint"] = "\(endpoint)"
    self.logger = logger
  }

  /// As often as the receiver lets go of a connection: for those who look into it.
  func connected() { logger.debug("connected to the \(noun) receiver") }

  /// `dropped` is the ledger's count of lost spans so far.
  mutating func outageBegan(_ cause: String, dropped: Int, at now: Nanoseconds) {
    guard outageSince == nil else { return }
    outageSince = now
    droppedBefore = dropped
    logger.warning("\(noun) export fails", metadata: ["cause": "\(cause)"])
  }

  mutating func outageEnded(dropped: Int, at now: Nanoseconds) {
    guard let since = outageSince else { return }
    outageSince = nil
    logger.notice(
      "\(noun) export works again",
      metadata: [
        "dropped": "\(dropped - droppedBefore)", "outage_ms": "\((now - since) / millisecond)",
      ])
  }

  mutating func refused(_ status: String, spans: Int, at now: Nanoseconds) {
    guard let suppressed = refusals.allow(at: now) else { return }
    logger.error(
      "\(noun)s refused by the receiver",
      metadata: [
        "status": "\(status)", "\(noun.replacing(" ", with: "_"))s": "\(spans)",
        "suppressed": "\(suppressed)",
      ])
  }

  mutating func partialSuccess(rejected: Int, _ remark: String, at now: Nanoseconds) {
    guard let suppressed = remarks.allow(at: now) else { return }
    logger.warning(
      "remark of the \(noun) receiver",
      metadata: ["rejected": "\(rejected)", "remark": "\(remark)", "suppressed": "\(suppressed)"])
  }

  /// `total` is the ledger's count of spans that found the queue full.
  mutating func queueFull(total: Int, at now: Nanoseconds) {
    guard total > queueFullReported, overflows.allow(at: now) != nil else { return }
    logger.warning("\(noun) queue full", metadata: ["dropped": "\(total - queueFullReported)"])
    queueFullReported = total
  }

  func spoolOpened(_ path: String, files: Int, spans: Int, skipped: Int) {
    logger.info(
      "span spool is open",
      metadata: ["path": "\(path)", "files": "\(files)", "spans": "\(spans)", "skipped": "\(skipped)"])
  }

  mutating func spoolFailed(_ cause: String, at now: Nanoseconds) {
    guard let suppressed = spoolFailures.allow(at: now) else { return }
    logger.error(
      "span spool cannot be used", metadata: ["cause": "\(cause)", "suppressed": "\(suppressed)"])
  }

  func undeliveredAtEnd(dropped: Int, spooled: Int) {
    logger.warning(
      "\(noun)s not delivered before the end", metadata: ["dropped": "\(dropped)", "spooled": "\(spooled)"])
  }
}
