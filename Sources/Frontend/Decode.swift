// Decode: the body becomes a validated request for a known model.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Parses and validates the body, and finds the model's workers.
  func decode() {
    let request: InferenceRequest
    do throws(APIError) {
      request = try InferenceRequest.parse(body.readable, endpoint: endpoint)
    } catch {
      refuse(error)
      return
    }
    self.request = request
    times.decoded = loop.now
    let set = service.workers
    let known: Int?
    if request.modelHasEscapes {
      let name = request.modelName(in: body.readable)
      known = set.models.firstIndex { $0.name == name }
    } else {
      known = set.modelIndex(body.readable.slice(request.model))
    }
    guard let index = known else {
      // Before any worker was heard of, a right name is unknown too: that is no mistake of the caller.
      if set.models.isEmpty {
        refuse(.noWorkers(model: nil))
      } else {
        refuse(.modelNotFound(request.modelName(in: body.readable)))
      }
      return
    }
    let model = set.models[index]
    modelIndex = index
    self.model = model
    adoptMetrics(service.modelMetrics[index])
    guard !model.workers.isEmpty else {
      refuse(.noWorkers(model: model.name))
      return
    }
    selectWorker(excluding: [])
  }

  /// Moves the request's gauges from the unknown model to the one it named.
  private func adoptMetrics(_ known: ModelMetrics) {
    metrics.left()
    metrics = known
    metrics.entered()
    metrics.started(endpoint, stream: isStreaming)
  }
}
