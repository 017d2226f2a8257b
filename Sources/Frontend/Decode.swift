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
    let request: InferenceRequest
    do throws(APIError) {
      request = try Preprocessor.decode(body.readable, endpoint)
    } catch {
      refuse(error)
      return
    }
    times.decoded = loop.system.monotonicNanoseconds()
    accept(request)
  }

  /// Finds the workers of the model that a valid request names, and goes on to choose one of them.
  func accept(_ request: InferenceRequest) {
    self.request = request
    if let asked = request.extensions { hints = RoutingHints.adding(asked.hints, to: hints) }
    var found = service.workers.modelIndex(of: request, in: body.readable)
    if found.map({ service.workers.models[$0].workers.isEmpty }) ?? true {
      service.catchUp()
      found = service.workers.modelIndex(of: request, in: body.readable)
    }
    let set = service.workers
    guard let index = found else {
      // Before any worker was heard of, a right name is unknown too: that is no mistake of the caller.
      if set.models.isEmpty {
        refuse(.noWorkers(model: nil))
      } else {
        refuse(.modelNotFound(request.modelName(in: body.readable)))
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
      refuse(.noWorkers(model: model.name))
      return
    }
    // What the pool prepared is of no use where the model's rules have changed meanwhile.
    let rules = service.promptRules[index]
    promptRules = rules
    if isLong(request, rules), preprocessor?.rules != rules {
      preprocessInPool(request)
    } else {
      service.steps.route(self)
    }
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
