// Which models the worker serves right now, shared by its loops: read per request, written by whoever learns of a change.

internal import OpenAI
internal import Synchronization

/// The models and whether the engine is there to serve them.
struct ServedModels: Sendable, Equatable {
  var models: [ListedModel] = []
  var isReady = false
  /// Why it is not ready, for `/health`.
  var reason = "starting"

  /// 503: nothing is known to be served yet.
  var notReadyError: APIError {
    APIError(
      status: 503, code: "no_workers", message: "The engine is not ready: \(reason).", retryAfterSeconds: 1)
  }
}

/// The current ``ServedModels``, from any thread.
final class ServedModelsBox: Sendable {
  private let state = Mutex(ServedModels())

  var value: ServedModels {
    get { state.withLock { $0 } }
    set { state.withLock { $0 = newValue } }
  }

  /// Throws when `model` is not served, or nothing is yet.
  func check(_ model: String) throws(APIError) {
    let state = value
    if state.models.isEmpty { throw state.notReadyError }
    if !state.models.contains(where: { $0.id == model }) { throw .modelNotFound(model) }
  }
}
