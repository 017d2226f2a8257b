// Select: which worker takes the request.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Chooses a worker other than those of `excluded` and dispatches to it; refuses when there is none.
  func selectWorker(excluding excluded: [UInt64]) {
    guard let model else { return }
    let candidates = excluded.isEmpty ? model.workers : model.workers.filter { !excluded.contains($0.id) }
    guard !candidates.isEmpty else {
      refuse(.noWorkers(model: model.name))
      return
    }
    let worker = candidates[model.routing.pick(candidates.count)]
    times.selected = loop.now
    dispatch(to: worker, fresh: false)
  }
}

extension InferenceExchange {
  /// The first token came: the prompt's prefill is no longer load.
  func routeFirstToken() {}

  /// The request ended: nothing of it is load any more.
  func routeEnded() {}

  /// Explains the decision on its span.
  func writeDecision(_ spans: inout SpanWriter) {}
}
