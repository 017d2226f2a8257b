// What the directory tells the routing state of a model when its workers change.

extension ModelRouting {
  /// The ready workers of the model are now these. Called on the control thread before the snapshot that holds them is
  /// published, so that no loop asks for a worker that the routing state has not heard of.
  func workersChanged(_ workers: [Worker]) {}

  /// A connect to this worker failed: what was predicted of its cache may be gone.
  func forgetPredictions(of worker: UInt64) {}
}
