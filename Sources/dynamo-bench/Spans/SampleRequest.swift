// The spans of one chat request, as the frontend writes them: the same calls, with made-up values of the usual lengths.

import Base
import Telemetry

/// Writes the five spans of a streamed request in KV mode with two candidates, those that end early first.
struct SampleRequest: ~Copyable {
  /// Spans of one request.
  static let spanCount = 5

  private let root: EncodedAttributes
  private let request: EncodedAttributes
  private let model: EncodedAttributes
  private let requestModel: EncodedAttributes
  private let worker: EncodedAttributes
  private let served: EncodedAttributes
  private let router: EncodedAttributes
  private let finish: EncodedAttributes
  private let url = Array("http://127.0.0.1:8001/v1/chat/completions".utf8)
  private var random = Xoshiro256(seed: 3)
  /// Spans of a request that end before it wait here.
  private var early: SpanWriter
  private var id = ByteBuffer(capacity: 36)

  init() {
    root = EncodedAttributes {
      $0.attribute(AttributeName.httpRequestMethod, "POST")
      $0.attribute(AttributeName.httpRoute, "/v1/chat/completions")
      $0.attribute(AttributeName.urlPath, "/v1/chat/completions")
      $0.attribute(AttributeName.urlScheme, "http")
      $0.attribute(AttributeName.networkProtocolVersion, "1.1")
    }
    request = EncodedAttributes {
      $0.attribute(AttributeName.method, "POST")
      $0.attribute(AttributeName.uri, "/v1/chat/completions")
      $0.attribute(AttributeName.version, "HTTP/1.1")
      $0.attribute(AttributeName.genAIOperationName, "chat")
      $0.attribute(AttributeName.genAIProviderName, "dynamo")
    }
    model = EncodedAttributes { $0.attribute(AttributeName.model, "Qwen/Qwen3-0.6B") }
    requestModel = EncodedAttributes { $0.attribute(AttributeName.genAIRequestModel, "Qwen/Qwen3-0.6B") }
    worker = EncodedAttributes {
      $0.attribute(AttributeName.workerID, id: 1 << 52)
      $0.attribute(AttributeName.dpRank, 0)
      $0.attribute(AttributeName.phase, "Aggregated")
      $0.attribute(AttributeName.httpRequestMethod, "POST")
      $0.attribute(AttributeName.serverAddress, "127.0.0.1")
      $0.attribute(AttributeName.serverPort, 8_001)
    }
    served = EncodedAttributes {
      $0.attribute(AttributeName.prefillWorkerID, id: 1 << 52)
      $0.attribute(AttributeName.decodeWorkerID, id: 1 << 52)
    }
    router = EncodedAttributes {
      $0.attribute(AttributeName.routerMode, "kv")
      $0.attribute(AttributeName.blockSize, 16)
    }
    finish = EncodedAttributes {
      $0.attribute(AttributeName.finishReason, "length")
      $0.attribute(AttributeName.genAIFinishReasons, ["length"])
    }
    early = SpanWriter()
  }

  /// Writes them into `batch`, as of the wall clock `now`.
  mutating func write(to batch: inout SpanWriter, now: UInt64) {
    let root = SpanContext(rootUsing: &random)
    let request = root.child(using: &random)
    id.removeAll()
    id.append(UUID(using: &random))
    early.reserve(1_024)
    writePreprocess(request, now)
    writeDecision(request, now)
    batch.append(early)
    early.release()
    batch.begin(
      name: "POST /v1/chat/completions", context: root, kind: .server, start: now, traceState: Self.noState)
    let start = batch.runStart
    batch.attribute(AttributeName.requestID, id.readable)
    let own = batch.run(since: start)
    batch.attribute(AttributeName.xRequestID, id.readable)
    batch.attributes(model)
    let all = batch.run(since: start)
    batch.attributes(self.root)
    batch.attribute(AttributeName.httpResponseStatusCode, 200)
    batch.end(at: now + 9_000_000)
    writeRequest(request, root, all, &batch, now)
    writeAttempt(request, own, &batch, now)
  }

  private static var noState: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

  private mutating func writePreprocess(_ request: SpanContext, _ now: UInt64) {
    early.begin(
      name: SpanName.preprocess, context: request.child(using: &random), parent: request.spanID,
      kind: .internal,
      start: now, traceState: Self.noState)
    early.attribute(AttributeName.blockCount, 24)
    early.attribute(AttributeName.promptSource, "tokens")
    early.attribute(AttributeName.islTokens, 391)
    early.end(at: now + 20_000)
  }

  private mutating func writeDecision(_ request: SpanContext, _ now: UInt64) {
    early.begin(
      name: SpanName.selectWorker, context: request.child(using: &random), parent: request.spanID,
      kind: .internal, start: now + 20_000, traceState: Self.noState)
    early.attribute(AttributeName.requestID, id.readable)
    early.attributes(router)
    early.attribute(AttributeName.islTokens, 391)
    early.attribute(AttributeName.blockCount, 24)
    early.attribute(AttributeName.workerID, id: 1 << 52)
    early.attribute(AttributeName.overlapBlocks, 20)
    early.attribute(AttributeName.decisionCost, 4.4375)
    early.attribute(AttributeName.decisionMargin, 18.5)
    early.attribute(AttributeName.cacheSource, "events")
    early.attribute(AttributeName.candidateWorkers, count: 2) { 1 << 52 + $0 }
    early.attribute(AttributeName.candidateOverlapBlocks, count: 2) { 20 - 20 * $0 }
    early.attribute(AttributeName.candidateDecodeBlocks, count: 2) { 310 + $0 }
    early.attribute(AttributeName.candidatePrefillTokens, count: 2) { 71 + $0 }
    early.attribute(AttributeName.candidateCosts, count: 2, fractions: { 4.4375 + Double($0) })
    early.end(at: now + 30_000)
  }

  private func writeRequest(
    _ request: SpanContext, _ root: SpanContext, _ ids: SpanWriter.AttributeRun, _ batch: inout SpanWriter,
    _ now: UInt64
  ) {
    batch.begin(
      name: SpanName.httpRequest, context: request, parent: root.spanID, kind: .internal, start: now,
      traceState: Self.noState)
    batch.attributes(repeating: ids)
    batch.attributes(self.request)
    batch.attributes(requestModel)
    batch.attribute(AttributeName.genAIRequestStream, true)
    batch.attribute(AttributeName.genAIRequestMaxTokens, 64)
    batch.attribute(AttributeName.inputTokens, 391)
    batch.attribute(AttributeName.genAIInputTokens, 391)
    batch.attribute(AttributeName.cachedTokens, 320)
    batch.attribute(AttributeName.genAICacheReadTokens, 320)
    batch.attribute(AttributeName.outputTokens, 64)
    batch.attribute(AttributeName.genAIOutputTokens, 64)
    batch.attribute(AttributeName.tokensSource, "usage")
    batch.attribute(AttributeName.ttftMilliseconds, 4.21)
    batch.attribute(AttributeName.genAITimeToFirstChunk, 0.00421)
    batch.attribute(AttributeName.averageITLMilliseconds, 0.07)
    batch.attribute(AttributeName.maximumITLMilliseconds, 0.3)
    batch.attributes(finish)
    batch.attributes(served)
    batch.attribute(AttributeName.requestOutcome, RequestOutcome.success.text)
    batch.event(name: SpanEventName.firstToken, at: now + 4_210_000)
    batch.end(at: now + 9_000_000)
  }

  private mutating func writeAttempt(
    _ request: SpanContext, _ own: SpanWriter.AttributeRun, _ batch: inout SpanWriter, _ now: UInt64
  ) {
    batch.begin(
      name: SpanName.kvRouteRequest, context: request.child(using: &random), parent: request.spanID,
      kind: .client, start: now + 30_000, traceState: Self.noState)
    batch.attributes(repeating: own)
    batch.attributes(worker)
    url.withUnsafeBytes { batch.attribute(AttributeName.urlFull, $0) }
    batch.attribute(AttributeName.requestAttempt, 1)
    batch.attribute(AttributeName.httpResponseStatusCode, 200)
    batch.attribute(AttributeName.requestOutcome, RequestOutcome.success.text)
    batch.end(at: now + 8_990_000)
  }
}
