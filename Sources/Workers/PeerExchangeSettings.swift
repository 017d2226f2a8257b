// How several frontends of the same workers find each other.

package import Base

/// Settings of the exchange of load between frontends.
package struct PeerExchangeSettings: Sendable, Equatable {
  /// Other frontends that are listened to at most; more are refused.
  package static let peersMax = 64

  /// Where the others hear this one, as `tcp://10.0.0.7:5571`.
  package var address: String
  /// Where the others are heard. This one's own address may be among them.
  package var peers: [String]
  /// How long the load of another counts after its last message.
  package var lease: Nanoseconds = 5 * second
  /// Between two messages about what changed.
  package var interval: Nanoseconds = 10 * millisecond

  package init(address: String, peers: [String]) {
    self.address = address
    self.peers = peers
  }

  /// Between two full messages, which also say that the sender lives: a third of the lease and a second at most.
  var fullInterval: Nanoseconds { max(interval, min(second, lease / 3)) }

  /// Why this cannot be used; nil when it can.
  package var fault: String? {
    if let wrong = ([address] + peers).first(where: { !$0.hasPrefix("tcp://") && !$0.hasPrefix("ipc://") }) {
      return "\(wrong) is no ZeroMQ address: tcp://host:port or ipc://path"
    }
    if lease < 30 * millisecond || interval > lease / 3 {
      return "the lease must be 30 ms at least, and three times the interval"
    }
    if peers.count > Self.peersMax { return "there are more than \(Self.peersMax) other frontends" }
    return nil
  }
}
