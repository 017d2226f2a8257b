// Which models the worker serves right now, shared by its loops: read per request, written by whoever learns of a change.

internal import OpenAI
internal import Synchronization

/// The models and whether the engine is there to serve them.
struct ServedModels: Sendable, Equatable {
  var models: [ListedModel] = []
  var isReady = false
  /// Why it is not ready, for `/health`.
  var reason = "starting"
}

/// The current ``ServedModels``, from any thread.
final class ServedModelsBox: Sendable {
  private let state = Mutex(ServedModels())

  var value: ServedModels {
    get { state.withLock { $0 } }
    set { state.withLock { $0 = newValue } }
  }

  func serves(_ model: String) -> Bool {
    state.withLock { state in state.models.contains { $0.id == model } }
  }
}
