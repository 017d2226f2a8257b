// The directory's control on a played kernel: time moves when a test says so, probes end as a test says.

import Base
import EventLoop
import Foundation
import Logging
import Synchronization
import Telemetry
import TestSupport
import Testing
import Transport

@testable import Workers

let quietLogger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

final class LineCollector: LogSink {
  private let text = Mutex("")

  func write(_ lines: UnsafeRawBufferPointer) { text.withLock { $0 += lines.text } }

  var lines: [String] { text.withLock { $0 }.split(separator: "\n").map(String.init) }
}

/// Probes that a test ends.
final class ScriptedProber: WorkerProber {
  final class Pending: ProbeInFlight {
    let upstream: Upstream
    let questions: ProbeQuestions
    private(set) var report: ((ProbeOutcome) -> Void)?

    init(_ upstream: Upstream, _ questions: ProbeQuestions, _ report: @escaping (ProbeOutcome) -> Void) {
      self.upstream = upstream
      self.questions = questions
      self.report = report
    }

    func cancel() { report = nil }

    func end(_ outcome: ProbeOutcome) {
      let report = report
      self.report = nil
      report?(outcome)
    }
  }

  private(set) var all: [Pending] = []
  private(set) var forgotten: [UInt64] = []
  private(set) var isClosed = false

  func probe(
    _ upstream: Upstream, _ questions: ProbeQuestions, _ report: @escaping (ProbeOutcome) -> Void
  ) -> any ProbeInFlight {
    let pending = Pending(upstream, questions, report)
    all.append(pending)
    return pending
  }

  final class PendingCheck: ProbeInFlight {
    let engine: EngineKind
    let model: String
    private(set) var report: ((PromptAgreement) -> Void)?

    init(_ engine: EngineKind, _ model: String, _ report: @escaping (PromptAgreement) -> Void) {
      self.engine = engine
      self.model = model
      self.report = report
    }

    func cancel() { report = nil }

    func end(_ agreement: PromptAgreement) {
      let report = report
      self.report = nil
      report?(agreement)
    }
  }

  private(set) var checks: [PendingCheck] = []

  func check(
    _ upstream: Upstream, engine: EngineKind, model: String, _ samples: [PromptSample],
    _ report: @escaping (PromptAgreement) -> Void
  ) -> any ProbeInFlight {
    let pending = PendingCheck(engine, model, report)
    checks.append(pending)
    return pending
  }

  final class PendingCanary: ProbeInFlight {
    let worker: UInt64
    let question: CanaryQuestion
    private(set) var report: ((CanaryOutcome) -> Void)?

    init(_ worker: UInt64, _ question: CanaryQuestion, _ report: @escaping (CanaryOutcome) -> Void) {
      self.worker = worker
      self.question = question
      self.report = report
    }

    func cancel() { report = nil }

    func end(_ outcome: CanaryOutcome) {
      let report = report
      self.report = nil
      report?(outcome)
    }
  }

  private(set) var canaries: [PendingCanary] = []

  func canary(
    _ upstream: Upstream, _ question: CanaryQuestion, timeout: Nanoseconds,
    _ report: @escaping (CanaryOutcome) -> Void
  ) -> any ProbeInFlight {
    let pending = PendingCanary(upstream.id, question, report)
    canaries.append(pending)
    return pending
  }

  func forget(_ worker: UInt64) { forgotten.append(worker) }

  func close() { isClosed = true }

  /// Probes under way.
  var open: [Pending] { all.filter { $0.report != nil } }
}

final class ControlRig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let prober = ScriptedProber()
  let lines = LineCollector()
  private(set) var control: DirectoryControl
  private let published: Published

  final class Published {
    var sets: [WorkerSet] = []
  }

  init(
    edit: (inout WorkerDirectoryConfiguration) -> Void = { _ in },
    source: ((EventLoop) -> any DiscoverySource)? = nil
  ) throws {
    var configuration = WorkerDirectoryConfiguration()
    edit(&configuration)
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    kernel.wall = UInt64(Date().timeIntervalSince1970 * 1_000) * millisecond
    let logs = LogOutput(configuration: LogConfiguration(format: .jsonl), sink: lines) { 0 }
    let published = Published()
    self.published = published
    control = DirectoryControl(
      loop: loop, configuration: configuration, prober: prober,
      security: try WorkerSecurity(configuration.security), logger: logs.logger("test"),
      source: try source?(loop) ?? configuration.makeSource(on: loop)
    ) { published.sets.append($0) }
    control.start(
      fixed: try configuration.urls.map { try WorkerURL.parse($0).get() },
      prefilling: try configuration.prefillURLs.map {
        var url = try WorkerURL.parse($0).get()
        url.role = .prefill
        return url
      },
      simulated: try configuration.simulatedURLs.map { try WorkerURL.parse($0).get() })
    turn()
  }

  deinit {
    control.close()
    loop.close()
  }

  var sets: [WorkerSet] { published.sets }
  var latest: WorkerSet { published.sets.last ?? .empty }

  var folderWatch: FolderWatch? { (control.source as? FolderSource)?.watch }

  /// A wake-up with whatever mail there is.
  func turn() {
    for _ in 0..<3 {
      kernel.queueRaw([(UInt64.max, .readable)])
      loop.turn(patience: 0)
    }
  }

  func advance(_ time: Nanoseconds) {
    kernel.time += time
    kernel.wall += time
    turn()
  }

  /// Ends the only probe under way.
  func end(_ outcome: ProbeOutcome) {
    #expect(prober.open.count == 1)
    prober.open.first?.end(outcome)
    turn()
  }

  func answer(_ models: String..., blockSize: Int? = nil, totalBlocks: Int? = nil, isDynamo: Bool = false) {
    end(
      .success(
        ProbeAnswer(
          models: models, blockSize: blockSize, totalBlocks: totalBlocks, isDynamoWorker: isDynamo)))
  }

  func refuse() { end(.failure(.refused("connect: Connection refused"))) }

  /// The worker's state as one word, with the reason of one that is not ready.
  func state(_ index: Int = 0) -> String {
    guard latest.workers.indices.contains(index) else { return "none" }
    switch latest.workers[index].state {
    case .ready: return "ready"
    case .unprobed: return "unprobed"
    case .unreachable(let reason): return reason
    }
  }
}
