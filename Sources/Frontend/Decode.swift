// Decode: the body becomes a validated request for a known model.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Parses and validates the body: here, or in the pool when it is long.
  func decode() {
    guard case .reading = phase else { return }
    guard body.count <= service.configuration.preprocess.inlineBytesMax else {
      preprocessInPool(nil)
      return
    }
    let request: DecodedRequest
    do throws(APIError) {
      if endpoint.isAnthropic {
        bodyMemory += try service.shared.translate(
          &body, original: &original, endpoint, service.configuration)
      }
      request = DecodedRequest(try Preprocessor.decode(body.readable, endpoint))
    } catch {
      refuse(error, InferenceRequest.refused(body.readable, endpoint: endpoint))
      return
    }
    times.decoded = loop.system.monotonicNanoseconds()
    accept(request)
  }

  /// Finds the workers of the model that a valid request names, and goes on to choose one of them.
  func accept(_ request: DecodedRequest) {
    self.request = request
    if let error = refusalForTenant(request.fields) {
      refuse(error)
      return
    }
    if let asked = request.fields.extensions { hints = RoutingHints.adding(asked.hints, to: hints) }
    var found = service.workers.modelIndex(of: request.fields, in: body.readable)
    if found.map({ service.workers.models[$0].workers.isEmpty }) ?? true {
      service.catchUp()
      found = service.workers.modelIndex(of: request.fields, in: body.readable)
    }
    let set = service.workers
    guard let index = found else {
      // Before any worker was heard of, a right name is unknown too: that is no mistake of the caller.
      if set.models.isEmpty {
        refuse(.noWorkers(model: nil))
      } else {
        refuse(.modelNotFound(request.fields.modelName(in: body.readable)))
      }
      return
    }
    let model = set.models[index]
    if self.model == nil { adoptMetrics(service.modelMetrics[index]) }
    self.model = model
    tell("request decoded") {
      $0.field(LogKey.model, model.name)
      $0.field(LogKey.isStream, isStreaming)
    }
    guard !model.workers.isEmpty else {
      refuse(
        model.prefill == nil ? .noWorkers(model: model.name) : .onlyPrefillWorkers(model: model.name))
      return
    }
    if let able = model.workers(serving: endpoint), able.isEmpty {
      refuse(notServed(model))
      return
    }
    if case .messages = endpoint, !original.isEmpty, !model.speaksMessages { releaseOriginal() }
    if let previous = request.fields.previousResponse {
      hints = RoutingHints.following(XXH3.hash(body.readable.slice(previous), seed: Self.responseSeed), hints)
    }
    // What the pool prepared is of no use where the model's rules have changed meanwhile.
    let rules = service.promptRules[index]
    promptRules = rules
    if isLong(request.fields, rules), preprocessor?.rules != rules {
      preprocessInPool(request)
    } else {
      service.steps.route(self)
    }
  }

  /// Keeps ids of responses apart from sessions that callers name.
  static let responseSeed: UInt64 = 0x7265_7370

  private func notServed(_ model: ServedModel) -> APIError {
    // Counting needs the model's tokens, from wherever.
    if case .countTokens = endpoint { return .noTokenizer }
    let served = Endpoint.allCases.filter { model.workers(serving: $0)?.isEmpty != true }
    return .endpointNotServed(model.name, path: endpoint.path, served: served)
  }

  /// Every worker of the model gets the translation.
  private func releaseOriginal() {
    let count = min(original.count, bodyMemory)
    original.release()
    service.releaseBodyMemory(count)
    bodyMemory -= count
  }

  /// Answers with what is wrong with a body, and counts it for the model that it names, if that is served.
  func refuse(_ error: APIError, _ refused: InferenceRequest?) {
    if let refused, let index = service.workers.modelIndex(of: refused, in: body.readable) {
      metrics = service.modelMetrics[index]
    }
    refuse(error)
  }

  /// Chooses the worker of an accepted request, unless it ended meanwhile.
  func route() {
    guard case .reading = phase else { return }
    if times.preparing == 0 { times.preparing = loop.system.monotonicNanoseconds() }
    selectWorker(excluding: [])
  }

  /// From here on the request counts as one of the model it named.
  private func adoptMetrics(_ known: ModelMetrics) {
    metrics = known
    metrics.entered()
    metrics.started(endpoint, stream: isStreaming)
  }
}
