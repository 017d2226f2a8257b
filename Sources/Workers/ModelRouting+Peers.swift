// What other frontends book on a model's workers, on its way into and out of the routing state.

internal import Base
internal import Routing

extension ModelRouting {
  /// What is to be told to other frontends (``Router/takeShare(isFull:)``).
  func takeShare(isFull: Bool) -> PeerShare { locked { router.takeShare(isFull: isFull) } }

  /// Workers that are told of under one hold of the lock.
  private static let rowsPerHold = 512

  /// Says what others have booked now. Less of it may make room for those that wait.
  func setPeers(_ rows: [PeerShare.Row], now: Nanoseconds) {
    var rest = rows[...]
    while !rest.isEmpty {
      let part = rest.prefix(Self.rowsPerHold)
      rest = rest.dropFirst(part.count)
      lockedThenWaking(now: now) {
        for row in part { router.setPeers(worker: row.worker, row.load) }
      }
    }
  }

  /// Predicts what prompts that others sent leave in the workers' caches; the lock is held for one of them at a time.
  func predict(_ prompts: PeerShare.Prompts, now: Nanoseconds) {
    prompts.hashes.withUnsafeBufferPointer { hashes in
      for prompt in prompts.prompts {
        locked {
          router.predict(
            UnsafeBufferPointer(rebasing: hashes[prompt.blocks]), blockSize: prompt.blockSize,
            worker: prompt.worker, now: now)
        }
      }
    }
  }
}
