// Handing the listening sockets over to the process that comes next: both sides of it.
//
// They talk over a Unix socket that keeps the borders of messages:
//
//   next                                 this
//     │ ── connects ───────────────────▶ │  only a process of the same user, or root's
//     │ ◀── version, ready, purposes ─── │  with the descriptors beside them; both could accept from now on
//     │     … gets its workers ready …   │  serves on
//     │ ── "take" ─────────────────────▶ │  stops accepting
//     │ ◀── "taken" ──────────────────── │  and drains
//
// Until "take" nothing changes for this process: whatever becomes of the next one, it serves on. Connections that come
// between the two wait in the kernel.

internal import Base
package import EventLoop
internal import Logging

private let greeting = "dynamo-frontend handover 1"

/// The side of the process that serves: offers its sockets to whoever connects. Loop-confined.
final class HandoverHost: EventHandler {
  private let listener: Listener
  private let loop: EventLoop
  private let listeners: [Listener]
  private let isReady: () -> Bool
  private let taken: () -> Void
  private let logger: Logger
  private var registration: Registration?
  /// The latest process that asked; an earlier one is let go.
  private var offer: HandoverOffer?

  /// - Parameters:
  ///   - isReady: whether this process can answer requests now.
  ///   - taken: called once, when the next process has the sockets.
  init(
    path: String, loop: EventLoop, listeners: [Listener], logger: Logger, isReady: @escaping () -> Bool,
    taken: @escaping () -> Void
  ) throws(SystemError) {
    listener = try Listener.bindMessages(path: path)
    self.loop = loop
    self.listeners = listeners
    self.isReady = isReady
    self.taken = taken
    self.logger = logger
    registration = try loop.registerShared(listener.descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    let accepted = loop.system.accept(listener.descriptor)
    guard accepted >= 0 else { return }
    let channel = DescriptorChannel(adopting: accepted)
    guard channel.peerIsTrusted else {
      logger.warning("hand-over refused: another user's process asked")
      return
    }
    let text = [greeting, "ready \(isReady() ? 1 : 0)"] + listeners.map(\.purpose.rawValue)
    guard channel.send(text.joined(separator: "\n"), listeners.map(\.descriptor)) else { return }
    offer?.close()
    do throws(SystemError) {
      offer = try HandoverOffer(channel, loop) { [unowned self] in answer(channel) }
      logger.info("another process asks for the listening sockets")
    } catch {
      logger.warning("hand-over failed", metadata: ["reason": "\(error)"])
    }
  }

  private func answer(_ channel: DescriptorChannel) {
    switch channel.receive() {
    case .nothing: return
    case .text("take", _):
      // The path is the next process's from here on.
      close()
      _ = channel.send("taken")
      taken()
    case .text(_, let descriptors):
      for descriptor in descriptors { loop.system.close(descriptor) }
      dropOffer()
    case .end:
      dropOffer()
    }
  }

  private func dropOffer() {
    logger.warning("the process that asked for the listening sockets went away; serving on")
    offer?.close()
    offer = nil
  }

  /// Offers nothing any more.
  func close() {
    guard let registration else { return }
    self.registration = nil
    offer?.close()
    offer = nil
    listener.removeFile()
    loop.deregister(registration)
    loop.system.close(listener.descriptor)
  }
}

/// One process that was offered the sockets.
private final class HandoverOffer: EventHandler {
  private let channel: DescriptorChannel
  private let loop: EventLoop
  private let heard: () -> Void
  private var registration: Registration?

  init(_ channel: DescriptorChannel, _ loop: EventLoop, _ heard: @escaping () -> Void) throws(SystemError) {
    self.channel = channel
    self.loop = loop
    self.heard = heard
    registration = try loop.registerInput(channel.descriptor, self)
  }

  func ready(_ readiness: Readiness) { heard() }

  func close() {
    guard let registration else { return }
    self.registration = nil
    loop.deregister(registration, stillOpen: channel.descriptor)
  }
}

/// The side of the process that comes next: it has the sockets, and takes over when it is ready.
package final class Takeover: Sendable {
  /// Why the sockets cannot be had. The other process serves on.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// How long an answer of the other process may take, in seconds.
  private static let patience = 5

  private let channel: DescriptorChannel
  package let listeners: [Listener]
  /// Whether the other process can answer requests: then this one must be able to, before it takes over.
  let otherIsReady: Bool

  private init(_ channel: DescriptorChannel, _ listeners: [Listener], otherIsReady: Bool) {
    self.channel = channel
    self.listeners = listeners
    self.otherIsReady = otherIsReady
  }

  /// Asks the process that listens at `path` for its sockets; nil when there is none. Waits for its answer.
  package static func begin(path: String) throws(Failure) -> Takeover? {
    let channel: DescriptorChannel
    do throws(SystemError) {
      guard let connected = try DescriptorChannel.connect(path: path, patience: patience) else { return nil }
      channel = connected
    } catch {
      throw Failure(description: "\(error)")
    }
    guard case .text(let text, let descriptors) = channel.receive() else {
      throw Failure(description: "the process that listens there offers nothing")
    }
    let lines = text.split(separator: "\n").map(String.init)
    let listeners = zip(lines.dropFirst(2), descriptors).compactMap { purpose, descriptor in
      Listener.Purpose(rawValue: purpose).flatMap {
        Listener(adopting: descriptor, purpose: $0, ownsFile: true)
      }
    }
    guard lines.first == greeting, lines.count >= 2, listeners.count == descriptors.count,
      listeners.contains(where: { $0.purpose == .main })
    else { throw Failure(description: "the process that listens there speaks another language") }
    return Takeover(channel, listeners, otherIsReady: lines[1] == "ready 1")
  }

  /// Has the other process stop accepting. Waits for its word; when it is gone meanwhile, the sockets are this one's too.
  func take() throws(Failure) {
    guard channel.send("take") else { return }
    switch channel.receive() {
    case .text("taken", _): return
    case .end: return
    case .text, .nothing: throw Failure(description: "the process before gave no answer")
    }
  }
}
