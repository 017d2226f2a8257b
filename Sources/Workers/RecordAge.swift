// When a discovery record is taken for dead.

internal import Base

/// What the age of a record and its owner's port say about it.
enum RecordAge: Sendable, Equatable {
  /// Touched lately.
  case fresh
  /// Its owner should have touched it, but answers or was not asked yet.
  case doubted
  /// Nobody touches it and nobody listens.
  case dead

  /// Judges a record last touched at `touched`, both times in nanoseconds since the Unix epoch; `refused` when the last
  /// connect to the owner's port failed.
  init(touched: UInt64, now: UInt64, refused: Bool) {
    // A time in the future is a clock that was set back, not an old record.
    if touched >= now || now - touched <= FileRegistration.lifetime {
      self = .fresh
    } else {
      self = refused ? .dead : .doubted
    }
  }
}
